-- Leave a word for a process, which takes the oldest first; it is not kept for ever.
-- KEYS    1 the process's list of signals or control messages
-- ARGV    1 the word  2 seconds until it is forgotten
-- result  how many words wait
local waiting = redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return waiting
