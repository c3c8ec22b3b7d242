-- Move as many payloads as there are free slots from a queue into this worker's in-progress list.
-- entry      our list's in the registry
-- fetch_end  LEFT or RIGHT; renew: 1 if our lease may run out soon, for want of heartbeats: who fetches is alive
-- huge_bytes, before, after  see fetching.lua
-- limit_name    '' or the name of the queue's limit over the fleet; limit_spec: that as our code has it (see limits.lua). Then this script is
--         given queue_limit.lua, and the result has one item more: after how many ms to come again, or -1: when something is in the queue
-- result  {lease was gone 0|1, or 2: and so was all that we had written, 1 or 2 if somebody is suspected, or a batch cancelled, {payload, …}, sizes of what was buried or nothing}; error SUPERSEDED if another holds our process id
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
-- Changes nothing, but fails here, before anything is taken, if that is no list; and who began with it may go on when Redis is full.
redis.call('LTRIM', list, 0, -1)
local gone = 0
if holder and renew == '1' then redis.call('PEXPIRE', lease, lease_ms) end
if not holder then -- we were cut off; who fetches is alive
  redis.call('DEL', drained)
  redis.call('SET', lease, ours, 'PX', lease_ms)
  gone = 2 - redis.call('HEXISTS', registry, list)
  redis.call('HSET', registry, list, entry)
end
local suspects = redis.call('EXISTS', crashes, cancelled)
local limited, wanted = nil, tonumber(limit)
if limit_name ~= '' then
  limited = queue_limit(own, limit_name, cmsgpack.unpack(limit_spec), list)
  wanted = may_take(limited, wanted)
end
local at = {
  queue = queue, list = list, fetch_end = fetch_end, huge_bytes = tonumber(huge_bytes), dead = dead, before = before, after = after, unread = unread
}
local payloads, sizes = move_into(at, wanted, tonumber(max_bytes))
if limited then return {gone, suspects, payloads, sizes or {}, took(own, limited, #payloads, queue)} end
return {gone, suspects, payloads, sizes}
