-- Which of resque-scheduler's delayed jobs are due, and when the next one will be. Seconds whose list is gone are struck.
-- KEYS    1 sorted set of seconds  2 what comes before a second in the key of its list  3 …before a payload in that of its lists
-- ARGV    1 how many
-- result  {seconds until the next one after these, or '' ; payload, …}
local limit = tonumber(ARGV[1])
local t = now()
local result = {''}
for _, second in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', t, 'LIMIT', 0, limit)) do
  local found = redis.call('LRANGE', KEYS[2] .. second, 0, limit - #result)
  if #found == 0 then redis.call('ZREM', KEYS[1], second) end
  for _, payload in ipairs(found) do result[#result + 1] = payload end
  if #result > limit then
    result[1] = '0'
    return result
  end
end
local following = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if following[2] then result[1] = string.format('%.6f', math.max(0, tonumber(following[2]) - t)) end
return result
