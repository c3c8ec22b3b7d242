-- Which jobs are due, and when the next one will be; and what people ask of this worker. One script, as it is the one thing that
-- an idle worker does again and again.
-- KEYS    1 retry  2 schedule  3 asks of this worker  4 paused queues  5 paused classes
-- ARGV    1 how many of each at most  2 bytes of each after which to stop
-- result  {seconds until the next one after these, or '' ; due of retry; due of schedule; asks, oldest first; paused queues; paused classes}
local t, soonest = now(), nil
local result = {}
for i = 1, 2 do
  local more
  result[i], more = in_pages(tonumber(ARGV[1]), tonumber(ARGV[2]), function(offset, count)
    return redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', t, 'LIMIT', offset, count)
  end)
  if more then
    soonest = t
  else
    local following = redis.call('ZRANGEBYSCORE', KEYS[i], '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if following[2] then soonest = math.min(soonest or math.huge, tonumber(following[2])) end
  end
end
local wait = soonest and string.format('%.6f', math.max(0, soonest - t)) or ''
local asks = {}
while #asks < 100 do
  local ask = redis.call('RPOP', KEYS[3])
  if not ask then break end
  asks[#asks + 1] = ask
end
return {wait, result[1], result[2], asks, redis.call('SMEMBERS', KEYS[4]), redis.call('SMEMBERS', KEYS[5])}
