-- Take the lease of a process id: if nobody has it, or if its holder is the one we know to be gone.
-- gone_holder  value of a holder known to be gone, or ''
-- last_settles  what is known of the last groups of outcomes: nothing that our id sent in an earlier life counts now
-- result  {our value or the holder's, ms that its lease still runs}
redis.call('HDEL', registry, '') -- changes nothing, but who began with it may go on when Redis is full
local holder = redis.call('GET', lease)
if not holder or holder == ours or holder == gone_holder then
  if holder ~= ours then
    for i = before_last_settles + 1, #KEYS do redis.call('SET', KEYS[i], cmsgpack.pack({ours, 0, cmsgpack.pack({})}), 'EX', 86400) end
  end
  redis.call('SET', lease, ours, 'PX', lease_ms)
  redis.call('DEL', drained)
  holder = ours
end
return {holder, redis.call('PTTL', lease)}
