-- Move as many payloads as there are free slots from a queue into this worker's in-progress list.
-- KEYS    1 queue  2 in-progress list  3 registry of in-progress lists  4 our lease  5 crash counts
-- ARGV    1 how many  2 bytes after which to stop  3 our lease's value  4 lease in ms  5 the list's entry in the registry
--         6 the end to fetch from, LEFT or RIGHT
-- result  {lease was gone 0|1, or 2: and so was all that we had written, somebody is suspected 0|1, {payload, …}}; error SUPERSEDED if another holds our process id
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[3] then return redis.error_reply('SUPERSEDED ' .. holder) end
-- Changes nothing, but fails here, before anything is taken, if that is no list; and who began with it may go on when Redis is full.
redis.call('LTRIM', KEYS[2], 0, -1)
local gone = 0
if not holder then -- we were cut off; who fetches is alive
  redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
  gone = 2 - redis.call('HEXISTS', KEYS[3], KEYS[2])
  redis.call('HSET', KEYS[3], KEYS[2], ARGV[5])
end
local suspects = redis.call('EXISTS', KEYS[5])
local payloads = in_pages(tonumber(ARGV[1]), tonumber(ARGV[2]), function(_, count)
  if ARGV[6] == 'LEFT' then return redis.call('LPOP', KEYS[1], count) or {} end
  return redis.call('RPOP', KEYS[1], count) or {}
end)
for first = 1, #payloads, 250 do redis.call('LPUSH', KEYS[2], unpack(payloads, first, math.min(first + 249, #payloads))) end
return {gone, suspects, payloads}
