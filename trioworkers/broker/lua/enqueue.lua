-- Put the jobs of one or more calls into their queues, or into the schedule set. A call that fails leaves the others alone.
-- KEYS    1 queues  2 schedule  3 token of this call, or ''
-- ARGV    one msgpack {push, later} for each call, see send.lua
-- result  for each call '' or its error; an error if all failed; {} if this very call was executed before and only its reply was lost
if KEYS[3] ~= '' and redis.call('EXISTS', KEYS[3]) == 1 then return {} end
local result, failed = {}, 0
for number, packed in ipairs(ARGV) do
  local work = cmsgpack.unpack(packed)
  local ok, problem = pcall(send, {queues = KEYS[1], schedule = KEYS[2], push = work[1], later = work[2]})
  result[number] = ok and '' or type(problem) == 'table' and problem.err or tostring(problem)
  if not ok then failed = failed + 1 end
end
if failed == #ARGV then return redis.error_reply(result[1]) end
if KEYS[3] ~= '' then redis.call('SET', KEYS[3], 1, 'EX', 120) end
return result
