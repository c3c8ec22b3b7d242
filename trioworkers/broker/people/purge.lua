-- Forget a queue with all that waits in it, as Sidekiq's "clear" does.
-- KEYS    1 the queue  2 queues
-- ARGV    1 its name
-- result  how many payloads that were
local length = redis.call('LLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
return length
