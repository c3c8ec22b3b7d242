-- A sign of life: renew the lease, rewrite the record that Sidekiq's tools read, take one signal, look who is missing. What is there
-- already isn't written again: this is most of what idle workers have Redis do.
-- packed  {{list, entry, …} for the registry, {field, value, …} for the record, {id, job, …} running}; work, workers: where newer and older
--         Sidekiqs (before 6.4.2) look for what runs
-- lasts    1: the record does not expire, for go-workers2 stumbles over one that is missing
-- shown    1: the last heartbeat, or one before it whose reply was lost, showed jobs that ran
-- outage_ms how long the outage was from which we are just back; 0: from none; -1: this is our first one. Who was in it, too, has as long again to come back
-- result  {lease was gone 0|1, or 2: and so was all that we had written, seconds, microseconds, signal or '', 1 if something is held that needs upkeep, 2 if locks or batches are, 3 if both, 4 more if nobody knew of our schedule,
--         ms that whoever was missing after an outage isn't taken for dead yet, process id without a lease, its queue, …}
local MOST_SILENT_S = 60 -- a record is kept no longer
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
local lists, record, running = unpack(cmsgpack.unpack(packed))
local gone = holder and 0 or 1
if outage_ms == '-1' then redis.pcall('HDEL', suspects, 'charged') end -- an earlier worker's end: what that had has been taken over
-- Who began with a write that needs no memory may go on when Redis is full: a full Redis must not make us look dead.
if holder then
  redis.call('PEXPIRE', lease, lease_ms)
else
  redis.call('DEL', drained)
  redis.call('SET', lease, ours, 'PX', lease_ms)
  if #lists > 0 then gone = 2 - redis.call('HEXISTS', registry, lists[1]) end
end
local entries, known, alive = redis.call('HVALS', registry), {}, {}
for _, entry in ipairs(entries) do known[entry] = true end
for i = 2, #lists, 2 do
  if not known[lists[i]] then redis.call('HSET', registry, lists[i - 1], lists[i]) end
  alive[string.match(lists[i], '^%S+')] = true
end
-- Who clears away what is stale takes a process out of the set that has no record; then ours is new.
-- A set that somebody has written over keeps nobody from beating.
if redis.call('HSET', our_record, unpack(record)) > 0 then redis.pcall('SADD', processes, identity) end
if lasts ~= '1' then
  redis.call('EXPIRE', our_record, 60)
elseif redis.call('PERSIST', our_record) == 1 then -- fellows took us for dead
  redis.pcall('SADD', processes, identity)
end
if #running > 0 or shown == '1' then redis.call('DEL', work, workers) end
for _, key in ipairs(#running > 0 and {work, workers} or {}) do
  redis.call('HSET', key, unpack(running))
  redis.call('EXPIRE', key, 60)
end
local t = redis.call('TIME')
local signal, held = '', 0
if redis.call('EXISTS', signals, limits, repairs, unread, moving, unique, successors, batches) > 0 then
  signal = redis.call('RPOP', signals) or ''
  held = (redis.call('EXISTS', limits, repairs, unread, moving) > 0 and 1 or 0) + (redis.call('EXISTS', unique, successors, batches) > 0 and 2 or 0)
end
local declared = KEYS[before_cron_declared + 1]
if declared and redis.pcall('HSET', declared, schedule, t[1] .. '.' .. string.format('%06d', t[2])) ~= 0 then held = held + 4 end
local result = {gone, tonumber(t[1]), tonumber(t[2]), signal, held, 0}
local ms = tonumber(outage_ms)
if ms > 0 and ms > redis.call('PTTL', outage) then redis.call('SET', outage, identity, 'PX', ms) end
for _, entry in ipairs(entries) do
  local process, queue = string.match(entry, '^(%S+) (.*)$')
  if process then
    if alive[process] == nil then alive[process] = redis.call('EXISTS', lease_prefix .. process) == 1 end
    if not alive[process] then
      result[#result + 1] = process
      result[#result + 1] = queue
    end
  end
end
-- Who is new and finds everybody missing hasn't seen an outage; but there may have been one, since the newest sign of life of anybody.
local function silent_ms()
  local prefix, newest, somebody = string.sub(our_record, 1, -#identity - 1), tonumber(t[1]) - MOST_SILENT_S, false
  for _, other in ipairs(redis.pcall('SMEMBERS', processes)) do
    if other ~= identity then
      somebody, newest = true, math.max(newest, tonumber(redis.pcall('HGET', prefix .. other, 'beat')) or 0)
    end
  end
  return somebody and math.floor((tonumber(t[1]) - newest) * 1000) or 0
end
if #result > 6 then
  if ms < 0 then
    ms = silent_ms()
    if ms >= tonumber(lease_ms) and ms > redis.call('PTTL', outage) then redis.call('SET', outage, identity, 'PX', ms) end
  end
  result[6] = math.max(0, redis.call('PTTL', outage))
end
return result
