-- A page of the batches: those that are open, and to which nothing was added for as long as they said, are cancelled: whoever streamed members into them is gone.
-- at, limit  where the page begins, and how long it is
-- result  {where the next one begins, or -1; ID, …}
-- One whose key is no hash, or that can't be cancelled now, is passed over: the others are looked at all the same.
local found = redis.call('ZRANGE', own .. 'batches', at, at + limit - 1)
local result = {#found < tonumber(limit) and -1 or at + limit}
for _, id in ipairs(found) do
  local fields = redis.pcall('HMGET', batch_key(own, id), 'state', 'added', 'abandoned_after')
  local added, after = tonumber(fields[2]), tonumber(fields[3])
  if fields[1] == 'open' and added and after and now() > added + after and pcall(cancel_batch, own, id) then
    result[#result + 1] = id
  end
end
return result
