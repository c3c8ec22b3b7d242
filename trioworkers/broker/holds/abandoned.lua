-- A page of the batches: those that are open, and to which nothing was added for as long as they said, are cancelled: whoever streamed members into them is gone.
-- at, limit  where the page begins, and how long it is
-- result  {where the next one begins, or -1; ID, …}
-- One whose key is no hash, or that can't be cancelled now, is passed over: the others are looked at all the same.
-- The time is counted from look to look (`quiet`, as of `quiet_at`, since `quiet_since`), at most `MOST` for each: a clock that is set ahead by a day makes nobody late.
-- Nor more than half of what the batch says, so that one leap isn't all of a short time either.
local MOST = 600
local found = redis.call('ZRANGE', own .. 'batches', at, at + limit - 1)
local result = {#found < tonumber(limit) and -1 or at + limit}
for _, id in ipairs(found) do
  local key, time = batch_key(own, id), now()
  local fields = redis.pcall('HMGET', key, 'state', 'added', 'abandoned_after', 'quiet', 'quiet_at', 'quiet_since')
  local after = tonumber(fields[3])
  local most = math.min(MOST, (after or 0) / 2)
  if fields[1] == 'open' and fields[2] and after then
    local quiet = 0
    if fields[6] == fields[2] then
      quiet = (tonumber(fields[4]) or 0) + math.max(0, math.min(time - (tonumber(fields[5]) or time), most))
    else
      quiet = math.max(0, math.min(time - (tonumber(fields[2]) or time), most))
    end
    if not (quiet >= after) or not pcall(cancel_batch, own, id) then
      redis.pcall('HSET', key, 'quiet', string.format('%.6f', quiet), 'quiet_at', string.format('%.6f', time), 'quiet_since', fields[2])
    else
      result[#result + 1] = id
    end
  end
end
return result
