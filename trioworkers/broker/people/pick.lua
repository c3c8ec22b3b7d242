-- Take payloads out of a queue for an operator, each to its next place. What is not there any more was fetched meanwhile: passed over.
-- To remove from the middle of a long list one by one costs a walk each; so tombstones are put where they lie, and all are
-- removed in one walk. Nobody ever sees one.
-- work, payloads  as in relocate.lua, in the order of the list. What is pushed goes into another queue,
--            newest first to the end that is fetched next: so the jobs keep their order
-- packed_indexes  index of each, as read; what was pushed since has moved them
-- tombstone  a text that is no payload
-- result  {how many were moved, error, …}: a payload that its next place can't take stays where it was
local function payload_at(number) return ARGV[before_payloads + number] end
local write = {
  delete = function() end,
  bury = function(o) bury(dead, payload_at(o[1])) end,
  push = function(o) send({{o[4], o[5], {payload_at(o[6])}, 'RPUSH', queues}}, {}) end,
}
redis.call('LTRIM', queue, 0, -1) -- changes nothing; but who began so may write when Redis is full, and delete what fills it
local indexes, shift = cmsgpack.unpack(packed_indexes), 0
for i, o in ipairs(cmsgpack.unpack(work)) do
  local index, payload = indexes[i] + shift, payload_at(o[1])
  -- What is large isn't read to be compared, but only sent there: that is half as much.
  if index < 0 or #payload > 1000000 or redis.call('LINDEX', queue, index) ~= payload then
    index = redis.call('LPOS', queue, payload)
    if index and indexes[i] >= 0 then shift = index - indexes[i] end
  end
  if index and moved(write[o[2]], o) then
    redis.call('LSET', queue, index, tombstone)
    apply(own, o[3])
  end
end
if result[1] > 0 then -- counted from the nearer end
  local far = indexes[1] * 2 > redis.call('LLEN', queue)
  redis.call('LREM', queue, far and -result[1] or result[1], tombstone)
end
return result
