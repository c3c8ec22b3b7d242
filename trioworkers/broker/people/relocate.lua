-- Take payloads out of a sorted set for an operator, each to its next place. What is not there any more was moved by others: passed over.
-- work  {{number of a payload, kind, effects, …}, …}: 'delete'  'bury'  'push' queue name, queue key, number of the payload to enqueue
-- payloads  as they are: each string that comes into Lua, and each that is unpacked there, costs 2 ns a byte
-- result  {how many were moved, error, …}: a payload that its next place can't take stays where it was
local function payload_at(number) return ARGV[before_payloads + number] end
local write = {
  delete = function() end,
  bury = function(o) bury(dead, payload_at(o[1])) end,
  push = function(o) send({{o[4], o[5], {payload_at(o[6])}, 'LPUSH', queues}}, {}) end,
}
for _, o in ipairs(cmsgpack.unpack(work)) do
  if redis.call('ZSCORE', set, payload_at(o[1])) and moved(write[o[2]], o) then
    redis.call('ZREM', set, payload_at(o[1]))
    apply(own, o[3])
  end
end
return result
