-- Move what is left in our in-progress list back to the fetch end of its queue, oldest next in turn. No job is charged. With the last
-- of them goes what their attempts held: reserved for them, since they are next.
-- KEYS    1 our lease  2 in-progress list  3 queue  4 what its attempts hold
-- ARGV    1 our lease's value  2 how many at most  3 the end that is fetched from  4 bytes after which to stop
--         5 what our keys begin with
-- result  {moved, left}
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return redis.error_reply('SUPERSEDED ' .. holder) end
redis.call('LTRIM', KEYS[2], 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local moved, size = 0, 0
while moved < tonumber(ARGV[2]) and size < tonumber(ARGV[4]) do
  local payload = redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', ARGV[3])
  if not payload then break end
  moved, size = moved + 1, size + #payload
end
local left = redis.call('LLEN', KEYS[2])
if left == 0 then let_list_go(ARGV[5], KEYS[4], true) end
return {moved, left}
