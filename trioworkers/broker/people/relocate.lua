-- Take payloads out of a sorted set for an operator, each to its next place. What is not there any more was moved by others: passed over.
-- KEYS    1 the set  2 queues  3 dead
-- ARGV    1 msgpack {{payload, kind, effects, …}, …}: 'delete'  'bury'  'push' queue name, queue key, payload to enqueue
--         2 what our keys begin with
-- result  {how many were moved, error, …}: a payload that its next place can't take stays where it was
local write = {
  delete = function() end,
  bury = function(o) bury(KEYS[3], o[1]) end,
  push = function(o) send({{o[4], o[5], {o[6]}, 'LPUSH', KEYS[2]}}, {}) end,
}
for _, o in ipairs(cmsgpack.unpack(ARGV[1])) do
  if redis.call('ZSCORE', KEYS[1], o[1]) and moved(write[o[2]], o) then
    redis.call('ZREM', KEYS[1], o[1])
    apply(ARGV[2], o[3])
  end
end
return result
