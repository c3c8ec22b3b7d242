-- Which of resque-scheduler's delayed jobs are due, and when the next one will be. Seconds whose list is gone are struck.
-- result  {seconds until the next one after these, or '' ; {payload, …}; who holds resque-scheduler's master lock, or ''}: to them all is left
local scheduler = scheduling(lock, inner_lock)
if scheduler then return {'', {}, scheduler} end
local count, bytes = tonumber(limit), tonumber(max_bytes)
local t, due = now(), {}
for _, second in ipairs(redis.call('ZRANGEBYSCORE', seconds, '-inf', t, 'LIMIT', 0, count)) do
  local found, more = in_pages(count - #due, bytes, function(offset, page)
    return redis.call('LRANGE', second_prefix .. second, offset, offset + page - 1)
  end)
  if #found == 0 then redis.call('ZREM', seconds, second) end
  for _, payload in ipairs(found) do
    due[#due + 1] = payload
    bytes = bytes - #payload
  end
  if more then return {'0', due, ''} end
end
local following = redis.call('ZRANGEBYSCORE', seconds, '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local wait = following[2] and string.format('%.6f', math.max(0, tonumber(following[2]) - t)) or ''
return {wait, due, ''}
