-- Which of these batches are cancelled, or lie in one that is: what waits of them shall not run. One that is over isn't asked: whoever retries what is dead of it wants that.
-- ids    {ID, …}
-- result  {1 or 0, …}, in their order
-- A key that somebody else has put there says nothing: one such batch shall not keep the jobs of all others from starting.
local result = {}
for number, id in ipairs(cmsgpack.unpack(ids)) do
  result[number] = 0
  for _ = 1, 16 do
    local fields = redis.pcall('HMGET', batch_key(own, id), 'cancelled', 'fired_finished', 'parent')
    if fields[1] and not fields[2] then result[number] = 1 end
    if result[number] == 1 or not fields[3] then break end
    id = fields[3]
  end
end
-- What is over takes itself off the list; but somebody may have deleted it.
for _, id in ipairs(redis.pcall('SRANDMEMBER', own .. 'cancelled', 2)) do
  if not redis.pcall('HGET', batch_key(own, id), 'state') then redis.call('SREM', own .. 'cancelled', id) end
end
return result
