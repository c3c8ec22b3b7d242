-- Move as many payloads as there are free slots from a queue into this worker's in-progress list.
-- KEYS    1 queue  2 in-progress list  3 registry of in-progress lists  4 our lease  5 reclaims
-- ARGV    1 how many  2 bytes after which to stop  3 our lease's value  4 lease in ms  5 the list's entry in the registry
--         6 the end to fetch from
-- result  {lease was gone 0|1, or 2: and so was all that we had written, somebody is suspected 0|1, payload, …}; error SUPERSEDED if another holds our process id
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[3] then return redis.error_reply('SUPERSEDED ' .. holder) end
local gone = 0
if not holder then -- we were cut off; who fetches is alive
  redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
  gone = 2 - redis.call('HEXISTS', KEYS[3], KEYS[2])
  redis.call('HSET', KEYS[3], KEYS[2], ARGV[5])
end
local result, size = {gone, redis.call('EXISTS', KEYS[5])}, 0
for _ = 1, tonumber(ARGV[1]) do
  local payload = redis.call('LMOVE', KEYS[1], KEYS[2], ARGV[6], 'LEFT')
  if not payload then break end
  result[#result + 1] = payload
  size = size + #payload
  if size >= tonumber(ARGV[2]) then break end
end
return result
