-- The last act of a worker: its lease, its record and its empty lists go. A list that still holds something stays registered.
-- result  how many of our lists still hold something
redis.call('SREM', processes, identity)
redis.call('DEL', signals, work, workers)
-- It expires, as Ruby's does. One that lasts for go-workers2's sake isn't deleted either: who has just read our name reads our record next, and would
-- beat no more if there were none.
if lasts == '1' then redis.call('EXPIRE', our_record, 60) end
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return 0 end
local left = 0
for i = before_lists + 1, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then left = left + 1 else redis.call('HDEL', registry, KEYS[i]) end
end
redis.call('DEL', lease, last_settle, suspects, unpack(ARGV, before_admissions + 1))
return left
