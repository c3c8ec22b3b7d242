-- Renew our lease, if we still have it.
-- KEYS    1 our lease
-- ARGV    1 our lease's value  2 lease in ms
-- result  1 if it is ours
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
