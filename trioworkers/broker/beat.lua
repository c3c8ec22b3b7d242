-- A sign of life: renew the lease, rewrite the record that Sidekiq's tools read, take one signal, look who is missing.
-- packed  {{list, entry, …} for the registry, {field, value, …} for the record, {id, job, …} running}; work, workers: where newer and older
--         Sidekiqs (before 6.4.2) look for what runs
-- lasts    1: the record does not expire, for go-workers2 stumbles over one that is missing
-- outage_ms how long the outage was from which we are just back; 0: from none. Who was in it, too, has as long again to come back
-- result  {lease was gone 0|1, or 2: and so was all that we had written, seconds, microseconds, signal or '', 1 if something is held that needs upkeep, 2 if locks are, 3 if both,
--         ms that whoever was missing after an outage isn't taken for dead yet, process id without a lease, its queue, …}
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
redis.call('HDEL', registry, '') -- changes nothing, but who began with it may go on when Redis is full: a full Redis must not make us look dead
redis.call('SET', lease, ours, 'PX', lease_ms)
local lists, record, running = unpack(cmsgpack.unpack(packed))
local gone = holder and 0 or 1
if not holder then redis.call('DEL', drained) end
if gone == 1 and #lists > 0 then gone = 2 - redis.call('HEXISTS', registry, lists[1]) end
if #lists > 0 then redis.call('HSET', registry, unpack(lists)) end
redis.call('SADD', processes, identity)
redis.call('HSET', our_record, unpack(record))
if lasts ~= '1' then redis.call('EXPIRE', our_record, 60) end
for _, key in ipairs({work, workers}) do
  redis.call('DEL', key)
  if #running > 0 then
    redis.call('HSET', key, unpack(running))
    redis.call('EXPIRE', key, 60)
  end
end
local t = redis.call('TIME')
local result = {gone, tonumber(t[1]), tonumber(t[2]), redis.call('RPOP', signals) or ''}
result[5] = (redis.call('EXISTS', limits, repairs, unread) > 0 and 1 or 0) + (redis.call('EXISTS', unique, successors) > 0 and 2 or 0)
local ms = tonumber(outage_ms)
if ms > 0 and ms > redis.call('PTTL', outage) then redis.call('SET', outage, identity, 'PX', ms) end
result[6] = math.max(0, redis.call('PTTL', outage))
local alive = {}
for _, entry in ipairs(redis.call('HVALS', registry)) do
  local process, queue = string.match(entry, '^(%S+) (.*)$')
  if process then
    if alive[process] == nil then alive[process] = redis.call('EXISTS', lease_prefix .. process) == 1 end
    if not alive[process] then
      result[#result + 1] = process
      result[#result + 1] = queue
    end
  end
end
return result
