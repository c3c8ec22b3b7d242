-- The last act of a worker: its lease, its record and its empty lists go. A list that still holds something stays registered.
-- result  how many of our lists still hold something
redis.call('SREM', processes, identity)
redis.call('DEL', signals, work, workers)
if lasts == '1' then redis.call('DEL', our_record) end -- else it expires, as Ruby's does
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return 0 end
local left = 0
for i = before_lists + 1, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then left = left + 1 else redis.call('HDEL', registry, KEYS[i]) end
end
redis.call('DEL', lease, last_settle, suspects, unpack(ARGV, before_admissions + 1))
return left
