-- Take the lease of a process id: if nobody has it, or if its holder is the one we know to be gone.
-- KEYS    1 lease  2 registry of in-progress lists  3 … what is known of the last group of outcomes: nothing that our id sent in an earlier life counts now
-- ARGV    1 our lease's value  2 lease in ms  3 value of a holder known to be gone, or ''
-- result  {our value or the holder's, ms that its lease still runs}
redis.call('HDEL', KEYS[2], '') -- changes nothing, but who began with it may go on when Redis is full
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] or holder == ARGV[3] then
  if holder ~= ARGV[1] then
    for i = 3, #KEYS do redis.call('SET', KEYS[i], cmsgpack.pack({ARGV[1], 0, cmsgpack.pack({})}), 'EX', 86400) end
  end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  holder = ARGV[1]
end
return {holder, redis.call('PTTL', KEYS[1])}
