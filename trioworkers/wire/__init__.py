"""Bytes in, values out: what we share with Sidekiq. No I/O, no trio, no clock."""
