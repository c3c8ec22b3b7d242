-- Take payloads out of a queue for an operator, each to its next place. What is not there any more was fetched meanwhile: passed over.
-- To remove from the middle of a long list one by one costs a walk each; so tombstones are put where they lie, and all are
-- removed in one walk. Nobody ever sees one.
-- KEYS    1 the queue  2 queues  3 dead
-- ARGV    1 msgpack {{payload, kind, …}, …}, as in relocate.lua, in the order of the list  2 index of each, msgpack, as read; what
--         was pushed since has moved them  3 the tombstone, a text that is no payload  4 what our keys begin with. What is pushed goes into another queue,
--         newest first to the end that is fetched next: so the jobs keep their order
-- result  {how many were moved, error, …}: a payload that its next place can't take stays where it was
local write = {
  delete = function() end,
  bury = function(o) bury(KEYS[3], o[1]) end,
  push = function(o) send({{o[4], o[5], {o[6]}, 'RPUSH', KEYS[2]}}, {}) end,
}
redis.call('LTRIM', KEYS[1], 0, -1) -- changes nothing; but who began so may write when Redis is full, and delete what fills it
local indexes, shift = cmsgpack.unpack(ARGV[2]), 0
for i, o in ipairs(cmsgpack.unpack(ARGV[1])) do
  local index = indexes[i] + shift
  if index < 0 or redis.call('LINDEX', KEYS[1], index) ~= o[1] then
    index = redis.call('LPOS', KEYS[1], o[1])
    if index and indexes[i] >= 0 then shift = index - indexes[i] end
  end
  if index and moved(write[o[2]], o) then
    redis.call('LSET', KEYS[1], index, ARGV[3])
    apply(ARGV[4], o[3])
  end
end
if result[1] > 0 then -- counted from the nearer end
  local far = indexes[1] * 2 > redis.call('LLEN', KEYS[1])
  redis.call('LREM', KEYS[1], far and -result[1] or result[1], ARGV[3])
end
return result
