-- Entries of an outbox are with their receiver, up to one number: they go. A repeated or late call finds nothing to do.
-- These are no payloads of ours any more: what they hold is held where they are now, and nothing is let go.
-- epoch, last  of the numbering, and the number; last_id: of that entry
-- result  how many went; -1 if another entry has that number, or none: then this Redis was set back since, nobody knows what has arrived, and nothing goes
local state = numbering(numbers, target, 'text', 'number', 'text')
if not state or state[1] ~= epoch then return 0 end
local count = tonumber(last) - state[2]
if count <= 0 then return 0 end
-- ids are the first 24 characters
if string.sub(redis.call('LINDEX', outbox, count - 1) or '', 1, 24) ~= last_id then return -1 end
redis.call('LTRIM', outbox, count, -1)
redis.call('HSET', numbers, target, cmsgpack.pack({epoch, state[2] + count, last_id}))
if redis.call('EXISTS', outbox) == 0 then redis.call('SREM', outboxes, target) end
return count
