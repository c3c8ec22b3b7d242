-- The upkeep of what is held, which any worker does for all: free permits whose reservation has run out, limits that no live worker
-- declares any more, effects that could not be written.
-- forgotten_after_s  after so long a limit is that no worker declares
-- result  {how many parked jobs were woken, how many effects are still to be repaired, name of a forgotten limit, …}
redis.call('LTRIM', repairs, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local woken, forgotten = 0, {}
local all = redis.call('HGETALL', limits)
for i = 1, math.min(#all, 2000), 2 do
  local name, known, stored = all[i], pcall(cmsgpack.unpack, all[i + 1])
  local seen = known and type(stored) == 'table' and tonumber(stored[3])
  local ok, l = pcall(limit_of, own, name, nil)
  if ok then
    if not seen or now() - seen > tonumber(forgotten_after_s) then
      l.concurrency = math.huge -- nobody holds its jobs back any more
      if l.parked == 0 then
        redis.call('HDEL', limits, name)
        forgotten[#forgotten + 1] = name
      end
    end
    pcall(drop_expired, own, name, 500)
    local filled, count = pcall(fill, own, name)
    woken = woken + (filled and count or 0)
  end
end
for _ = 1, 100 do
  local packed = redis.call('LPOP', repairs)
  if not packed then break end
  local known, list = pcall(cmsgpack.unpack, packed)
  if known and type(list) == 'table' then pcall(apply, own, list) end -- what fails again is appended again
end
return {woken, redis.call('LLEN', repairs), unpack(forgotten)}
