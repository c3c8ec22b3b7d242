-- Show a worker to Resque's tools: one entry for each job that it runs, at least one. Strike entries that it needs no more, and
-- those of workers of ours that died.
-- work         {{{id, job or false}, …}, {id to strike, …}}
-- started      since when it runs, for people; now_text: as Ruby writes it, ISO 8601 in UTC
-- dead_before  whose last beat is before this, is dead
-- our_tag      what our ids have and others don't
local shown, struck = unpack(cmsgpack.unpack(work))
local function strike(id)
  redis.call('SREM', workers, id)
  redis.call('HDEL', heartbeats, id)
  redis.call('DEL', worker_prefix .. id, worker_prefix .. id .. ':started', stat_prefix .. 'processed:' .. id, stat_prefix .. 'failed:' .. id)
end
for _, id in ipairs(struck) do strike(id) end
for _, entry in ipairs(shown) do
  local id, job = unpack(entry)
  redis.call('SADD', workers, id)
  redis.call('HSET', heartbeats, id, now_text)
  redis.call('SET', worker_prefix .. id .. ':started', started, 'NX')
  if job then redis.call('SET', worker_prefix .. id, job, 'EX', 60) else redis.call('DEL', worker_prefix .. id) end
end
local beats = redis.call('HGETALL', heartbeats)
for i = 1, #beats, 2 do
  if string.find(beats[i], our_tag, 1, true) and beats[i + 1] < dead_before then strike(beats[i]) end
end
return #shown
