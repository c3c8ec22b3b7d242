-- Take payloads out of a sorted set for an operator, each to its next place. What is not there any more was moved by others: passed over.
-- work  {{payload, kind, effects, …}, …}: 'delete'  'bury'  'push' queue name, queue key, payload to enqueue or false: as it came
-- result  {how many were moved, error, …}: a payload that its next place can't take stays where it was
local write = {
  delete = function() end,
  bury = function(o) bury(dead, o[1]) end,
  push = function(o) send({{o[4], o[5], {o[6] or o[1]}, 'LPUSH', queues}}, {}) end,
}
for _, o in ipairs(cmsgpack.unpack(work)) do
  if redis.call('ZSCORE', set, o[1]) and moved(write[o[2]], o) then
    redis.call('ZREM', set, o[1])
    apply(own, o[3])
  end
end
return result
