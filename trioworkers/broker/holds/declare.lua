-- A worker's limits as its code has them. Of two versions of a limit that of the worker counts which started last.
-- started  when we did by Redis's clock, or '' if that is now
-- work     {{name, concurrency}, …}
-- result  when we started, as text; error of a key of the wrong type
local now = redis.call('TIME')
local moment = now[1] + now[2] / 1000000
local since = tonumber(started) or moment
for _, d in ipairs(cmsgpack.unpack(work)) do
  local known, stored = pcall(cmsgpack.unpack, redis.call('HGET', limits, d[1]) or '')
  local right = known and type(stored) == 'table' and tonumber(stored[1]) and tonumber(stored[2])
  if right and tonumber(stored[2]) > since then
    redis.call('HSET', limits, d[1], cmsgpack.pack({stored[1], stored[2], moment}))
  else
    redis.call('HSET', limits, d[1], cmsgpack.pack({d[2], since, moment}))
  end
end
return string.format('%.6f', since)
