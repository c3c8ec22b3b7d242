-- The last act of a worker: its lease, its record and its empty lists go. A list that still holds something stays registered.
-- KEYS    1 our lease  2 registry of in-progress lists  3 processes  4 signals  5 last settle  6 quarantine  7, 8 running
--         9 … our in-progress lists
-- ARGV    1 our lease's value  2 identity
-- result  how many of our lists still hold something
redis.call('SREM', KEYS[3], ARGV[2])
redis.call('DEL', KEYS[4], KEYS[7], KEYS[8])
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
local left = 0
for i = 9, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then left = left + 1 else redis.call('HDEL', KEYS[2], KEYS[i]) end
end
redis.call('DEL', KEYS[1], KEYS[5], KEYS[6])
return left
