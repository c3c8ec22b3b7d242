-- A sign of life: renew the lease, rewrite the record that Sidekiq's tools read, take one signal, look who is missing.
-- KEYS    1 our lease  2 registry of in-progress lists  3 processes  4 our record  5 signals  6 running  7 running, before 6.4.2
-- ARGV    1 our lease's value  2 lease in ms  3 identity
--         4 msgpack {{list, entry, …} for the registry, {field, value, …} for the record, {id, job, …} running}
--         5 what comes before a process id in the key of its lease
-- result  {lease was gone 0|1, or 2: and so was all that we had written, seconds, microseconds, signal or '', process id without a lease, its queue, …}
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return redis.error_reply('SUPERSEDED ' .. holder) end
redis.call('HDEL', KEYS[2], '') -- changes nothing, but who began with it may go on when Redis is full: a full Redis must not make us look dead
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local lists, record, running = unpack(cmsgpack.unpack(ARGV[4]))
local gone = holder and 0 or 1
if gone == 1 and #lists > 0 then gone = 2 - redis.call('HEXISTS', KEYS[2], lists[1]) end
if #lists > 0 then redis.call('HSET', KEYS[2], unpack(lists)) end
redis.call('SADD', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[4], unpack(record))
redis.call('EXPIRE', KEYS[4], 60)
for i = 6, 7 do
  redis.call('DEL', KEYS[i])
  if #running > 0 then
    redis.call('HSET', KEYS[i], unpack(running))
    redis.call('EXPIRE', KEYS[i], 60)
  end
end
local t = redis.call('TIME')
local result = {gone, tonumber(t[1]), tonumber(t[2]), redis.call('RPOP', KEYS[5]) or ''}
local alive = {}
for _, entry in ipairs(redis.call('HVALS', KEYS[2])) do
  local process, queue = string.match(entry, '^(%S+) (.*)$')
  if process then
    if alive[process] == nil then alive[process] = redis.call('EXISTS', ARGV[5] .. process) == 1 end
    if not alive[process] then
      result[#result + 1] = process
      result[#result + 1] = queue
    end
  end
end
return result
