-- Put strays (in our in-progress list, but not running) back to the fetch end of their queue. No job is charged.
-- KEYS    1 our lease  2 in-progress list  3 queue  4 what its attempts hold
-- ARGV    1 our lease's value  2 LPUSH or RPUSH  3 what our keys begin with  4 msgpack {member, …} of the attempts that do run: what others
--         hold by our record is let go, for their jobs  5 … payloads, newest first
-- result  how many were moved
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return redis.error_reply('SUPERSEDED ' .. holder) end
local moved = 0
for i = 5, #ARGV do
  if redis.call('LREM', KEYS[2], 1, ARGV[i]) == 1 then
    redis.call(ARGV[2], KEYS[3], ARGV[i])
    moved = moved + 1
  end
end
local running = {}
for _, member in ipairs(cmsgpack.unpack(ARGV[4])) do running[member] = true end
let_list_go(ARGV[3], KEYS[4], true, running)
return moved
