-- Put jobs into their queues, or into the schedule set.
-- KEYS    1 queues  2 schedule  3 token of this call, or ''
-- ARGV    1 msgpack {push, later}, see send.lua
-- result  1, or 0 if this very call was executed before and only its reply was lost
if KEYS[3] ~= '' and redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local work = cmsgpack.unpack(ARGV[1])
send({queues = KEYS[1], schedule = KEYS[2], push = work[1], later = work[2]})
if KEYS[3] ~= '' then redis.call('SET', KEYS[3], 1, 'EX', 120) end
return 1
