-- Move what is left in our in-progress list back to the fetch end of its queue, oldest next in turn. No job is charged. With the last
-- of them goes what their attempts held: reserved for them, since they are next.
-- result  {moved, left}
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local moved, size, there = 0, 0, {}
while moved < tonumber(limit) and size < tonumber(max_bytes) do
  local payload = redis.call('LMOVE', list, queue, 'LEFT', fetch_end)
  if not payload then break end
  moved, size = moved + 1, size + #payload
  there[moved] = payload
end
touch_named(own, there)
local left = redis.call('LLEN', list)
if left == 0 then let_list_go(own, holds, true) end
return {moved, left}
