-- Entries of an outbox are with their receiver, up to one number: they go. A repeated or late call finds nothing to do.
-- These are no payloads of ours any more: what they hold is held where they are now, and nothing is let go.
-- epoch, last  of the numbering, and the number; ids are the first 24 characters
-- result  how many went
local state = numbering(numbers, target, 'text', 'number', 'text')
if not state or state[1] ~= epoch then return 0 end
local count = math.min(tonumber(last) - state[2], redis.call('LLEN', outbox))
if count <= 0 then return 0 end
local id = string.sub(redis.call('LINDEX', outbox, count - 1), 1, 24)
redis.call('LTRIM', outbox, count, -1)
redis.call('HSET', numbers, target, cmsgpack.pack({epoch, state[2] + count, id}))
if redis.call('EXISTS', outbox) == 0 then redis.call('SREM', outboxes, target) end
return count
