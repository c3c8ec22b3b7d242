-- A page of the batches: those that are open, and to which nothing was added for as long as they said, are cancelled: whoever streamed members into them is gone.
-- at, limit  where the page begins, and how long it is
-- result  {where the next one begins, or -1; ID, …}
local found = redis.call('ZRANGE', own .. 'batches', at, at + limit - 1)
local result = {#found < tonumber(limit) and -1 or at + limit}
for _, id in ipairs(found) do
  local fields = redis.call('HMGET', batch_key(own, id), 'state', 'added', 'abandoned_after')
  local added, after = tonumber(fields[2]), tonumber(fields[3])
  if fields[1] == 'open' and added and after and now() > added + after then
    cancel_batch(own, id)
    result[#result + 1] = id
  end
end
return result
