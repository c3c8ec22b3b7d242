-- Which jobs are due, and when the next one will be. Reads only.
-- KEYS    1 retry  2 schedule
-- ARGV    1 how many of each
-- result  {seconds until the next one after these, or '' ; due of retry; due of schedule}
local limit = tonumber(ARGV[1])
local t, soonest = now(), nil
local result = {}
for i = 1, 2 do
  local due = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', t, 'LIMIT', 0, limit)
  result[i] = due
  if #due == limit then
    soonest = t
  else
    local following = redis.call('ZRANGEBYSCORE', KEYS[i], '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if following[2] then soonest = math.min(soonest or math.huge, tonumber(following[2])) end
  end
end
return {soonest and string.format('%.6f', math.max(0, soonest - t)) or '', result[1], result[2]}
