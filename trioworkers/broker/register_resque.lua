-- Show a worker to Resque's tools: one entry for each job that it runs, at least one. Strike entries that it needs no more, and
-- those of workers of ours that died.
-- KEYS    1 workers  2 heartbeats  3 what comes before a worker's id in the key of its job  4 …in the keys of its counters
-- ARGV    1 msgpack {{{id, job or false}, …}, {id to strike, …}}  2 since when it runs, for people
--         3 now as Ruby writes it, ISO 8601 in UTC  4 whose last beat is before this, is dead  5 what our ids have and others don't
local shown, struck = unpack(cmsgpack.unpack(ARGV[1]))
local function strike(id)
  redis.call('SREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('DEL', KEYS[3] .. id, KEYS[3] .. id .. ':started', KEYS[4] .. 'processed:' .. id, KEYS[4] .. 'failed:' .. id)
end
for _, id in ipairs(struck) do strike(id) end
for _, entry in ipairs(shown) do
  local id, job = unpack(entry)
  redis.call('SADD', KEYS[1], id)
  redis.call('HSET', KEYS[2], id, ARGV[3])
  redis.call('SET', KEYS[3] .. id .. ':started', ARGV[2], 'NX')
  if job then redis.call('SET', KEYS[3] .. id, job, 'EX', 60) else redis.call('DEL', KEYS[3] .. id) end
end
local beats = redis.call('HGETALL', KEYS[2])
for i = 1, #beats, 2 do
  if string.find(beats[i], ARGV[5], 1, true) and beats[i + 1] < ARGV[4] then strike(beats[i]) end
end
return #shown
