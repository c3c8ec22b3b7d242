-- Which jobs are due, and when the next one will be; and the control messages for this worker. One script, as it is the one thing that
-- an idle worker does again and again.
-- result  {seconds until the next one after these, or '' ; due of retry; due of schedule; messages, oldest first; paused queues; paused classes}
local t, soonest = now(), nil
local result = {}
for i, set in ipairs({retry, schedule}) do
  local more
  result[i], more = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
    return redis.call('ZRANGEBYSCORE', set, '-inf', t, 'LIMIT', offset, count)
  end)
  if more then
    soonest = t
  else
    local following = redis.call('ZRANGEBYSCORE', set, '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if following[2] then soonest = math.min(soonest or math.huge, tonumber(following[2])) end
  end
end
local wait = soonest and string.format('%.6f', math.max(0, soonest - t)) or ''
local messages = {}
while #messages < 100 do
  local message = redis.call('RPOP', control)
  if not message then break end
  messages[#messages + 1] = message
end
return {wait, result[1], result[2], messages, redis.call('SMEMBERS', paused_queues), redis.call('SMEMBERS', paused_classes)}
