-- The next entries of an outbox, and what its receiver needs to tell what it has had already.
-- target     the shard for which they are
-- new_epoch  what the numbering is called from now on, if it has no name yet, or its name is `diverged`: then the receiver knows it from a past that this Redis has lost
-- result  {epoch, number of the first entry, id of the one before it, {entry, …}, how many there are in all}; {} if there are none. An entry is 24 characters of an id, and the packed calls of enqueue.lua.
if redis.call('EXISTS', outbox) == 0 then return {} end
local state = numbering(numbers, target, 'text', 'number', 'text') or {diverged, 0, ''}
if state[1] == diverged then
  state[1] = new_epoch
  redis.call('HSET', numbers, target, cmsgpack.pack(state))
end
local entries = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
  return redis.call('LRANGE', outbox, offset, offset + count - 1)
end)
return {state[1], state[2] + 1, state[3], entries, redis.call('LLEN', outbox)}
