-- Put the jobs of one or more calls into their queues, or where they wait for their time. A call that fails leaves the others alone.
-- KEYS    1 token of this call, or ''
-- ARGV    one msgpack {push, later} for each call, see send.lua
-- result  for each call '' or its error; an error if all failed; {} if this very call was executed before and only its reply was lost
if KEYS[1] ~= '' and redis.call('EXISTS', KEYS[1]) == 1 then return {} end
local result, failed = {}, 0
for number, packed in ipairs(ARGV) do
  local work = cmsgpack.unpack(packed)
  local ok, problem = pcall(send, work[1], work[2])
  result[number] = ok and '' or words(problem)
  if not ok then failed = failed + 1 end
end
if failed == #ARGV then return redis.error_reply(result[1]) end
if KEYS[1] ~= '' then redis.call('SET', KEYS[1], 1, 'EX', 120) end
return result
