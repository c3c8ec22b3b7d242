-- Which jobs are due, and when the next one will be; and the control messages for this worker. One script, as it is the one thing that
-- an idle worker does again and again.
-- KEYS    1 retry  2 schedule  3 control messages for this worker  4 paused queues  5 paused classes
-- ARGV    1 how many of each at most  2 bytes of each after which to stop
-- result  {seconds until the next one after these, or '' ; due of retry; due of schedule; messages, oldest first; paused queues; paused classes}
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
local messages = {}
while #messages < 100 do
  local message = redis.call('RPOP', KEYS[3])
  if not message then break end
  messages[#messages + 1] = message
end
return {wait, result[1], result[2], messages, redis.call('SMEMBERS', KEYS[4]), redis.call('SMEMBERS', KEYS[5])}
