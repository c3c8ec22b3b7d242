-- Take payloads out of a queue for an operator, each to its next place. What is not there any more was fetched meanwhile: passed over.
-- To remove from the middle of a long list one by one costs a walk each; so tombstones are put where they lie, and all are
-- removed in one walk. Nobody ever sees one.
-- work       {{payload, kind, effects, …}, …}, as in relocate.lua, in the order of the list. What is pushed goes into another queue,
--            newest first to the end that is fetched next: so the jobs keep their order
-- packed_indexes  index of each, as read; what was pushed since has moved them
-- tombstone  a text that is no payload
-- result  {how many were moved, error, …}: a payload that its next place can't take stays where it was
local write = {
  delete = function() end,
  bury = function(o) bury(dead, o[1]) end,
  push = function(o) send({{o[4], o[5], {o[6] or o[1]}, 'RPUSH', queues}}, {}) end,
}
redis.call('LTRIM', queue, 0, -1) -- changes nothing; but who began so may write when Redis is full, and delete what fills it
local indexes, shift = cmsgpack.unpack(packed_indexes), 0
for i, o in ipairs(cmsgpack.unpack(work)) do
  local index = indexes[i] + shift
  if index < 0 or redis.call('LINDEX', queue, index) ~= o[1] then
    index = redis.call('LPOS', queue, o[1])
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
