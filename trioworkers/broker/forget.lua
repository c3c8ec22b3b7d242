-- Strike the list of a worker that is long dead from the registry, if it is empty.
-- KEYS    1 the dead worker's lease  2 its in-progress list  3 registry of in-progress lists  4 quarantine there  5 its last settle
--         6 what its attempts held
-- ARGV    1 what our keys begin with
-- result  1 if struck
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return 0 end
let_list_go(ARGV[1], KEYS[6], false)
redis.call('DEL', KEYS[4], KEYS[5])
return redis.call('HDEL', KEYS[3], KEYS[2])
