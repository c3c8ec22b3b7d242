"""How we speak to Redis: where it is, sockets, scripts, what coredis raises in our words. The only room that imports coredis."""
