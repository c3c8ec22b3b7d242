-- Leave a word for a process, which takes the oldest first; it is not kept for ever.
-- mailbox  the process's list of signals or control messages
-- result  how many words wait
local waiting = redis.call('LPUSH', mailbox, word)
redis.call('EXPIRE', mailbox, kept_s)
return waiting
