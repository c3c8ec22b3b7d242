-- Which of resque-scheduler's delayed jobs are due, and when the next one will be. Seconds whose list is gone are struck.
-- KEYS    1 sorted set of seconds  2 what comes before a second in the key of its list  3 …before a payload in that of its lists
-- ARGV    1 how many at most  2 bytes after which to stop
-- result  {seconds until the next one after these, or '' ; {payload, …}}
local count, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local t, due = now(), {}
for _, second in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', t, 'LIMIT', 0, count)) do
  local found, more = in_pages(count - #due, bytes, function(offset, page)
    return redis.call('LRANGE', KEYS[2] .. second, offset, offset + page - 1)
  end)
  if #found == 0 then redis.call('ZREM', KEYS[1], second) end
  for _, payload in ipairs(found) do
    due[#due + 1] = payload
    bytes = bytes - #payload
  end
  if more then return {'0', due} end
end
local following = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local wait = following[2] and string.format('%.6f', math.max(0, tonumber(following[2]) - t)) or ''
return {wait, due}
