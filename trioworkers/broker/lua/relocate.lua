-- Take payloads out of a sorted set by hand, each to its next place. What is not there any more was moved by others: passed over.
-- KEYS    1 the set  2 queues  3 dead
-- ARGV    1 msgpack {{payload, kind, …}, …}: 'delete'  'bury'  'push' queue name, queue key, payload to enqueue
-- result  {how many were moved, error, …}: a payload that its next place can't take stays where it was
local write = {
  delete = function() end,
  bury = function(o) bury(KEYS[3], o[1]) end,
  push = function(o)
    redis.call('LPUSH', o[4], o[5])
    redis.call('SADD', KEYS[2], o[3])
  end,
}
local moved, errors = 0, {}
for _, o in ipairs(cmsgpack.unpack(ARGV[1])) do
  if redis.call('ZSCORE', KEYS[1], o[1]) then
    local ok, problem = pcall(write[o[2]], o)
    if ok then
      redis.call('ZREM', KEYS[1], o[1])
      moved = moved + 1
    else
      errors[#errors + 1] = type(problem) == 'table' and problem.err or tostring(problem)
    end
  end
end
return {moved, unpack(errors)}
