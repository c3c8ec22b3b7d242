-- Move as many payloads as there are free slots from a queue into this worker's in-progress list.
-- entry      our list's in the registry
-- fetch_end  LEFT or RIGHT; renew: 1 if our lease may run out soon, for want of heartbeats: who fetches is alive
-- huge_bytes     what is larger is buried at once, as it came, unread, and without leaving Redis: nobody would run it
-- before, after  of a record around it, where what is dead lies in a list; else ''
-- limit_name    '' or the name of the queue's limit over the fleet; limit_spec: that as our code has it (see limits.lua). Then this script is
--         given queue_limit.lua, and the result has one item more: after how many ms to come again, or -1: when something is in the queue
-- result  {lease was gone 0|1, or 2: and so was all that we had written, somebody is suspected 0|1, {payload, …}, sizes of what was buried or nothing}; error SUPERSEDED if another holds our process id
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
local suspects = redis.call('EXISTS', crashes)
local limited, wanted = nil, tonumber(limit)
if limit_name ~= '' then
  limited = queue_limit(own, limit_name, cmsgpack.unpack(limit_spec), list)
  wanted = may_take(limited, wanted)
end
local payloads = in_pages(wanted, tonumber(max_bytes), function(_, count)
  if fetch_end == 'LEFT' then return redis.call('LPOP', queue, count) or {} end
  return redis.call('RPOP', queue, count) or {}
end)
local sizes, most = nil, tonumber(huge_bytes)
for i = #payloads, 1, -1 do
  if #payloads[i] > most then
    local buried
    if before ~= '' then
      buried = pcall(function() redis.call('RPUSH', dead, before .. cjson.encode(payloads[i]) .. after) end)
    else
      local t = redis.call('TIME')
      buried = pcall(redis.call, 'ZADD', dead, t[1] + t[2] / 1000000, payloads[i])
    end
    if buried then -- else it goes the way of the others
      sizes = sizes or {}
      sizes[#sizes + 1] = #payloads[i]
      note_unread(unread, payloads[i])
      table.remove(payloads, i)
    end
  end
end
for first = 1, #payloads, 250 do redis.call('LPUSH', list, unpack(payloads, first, math.min(first + 249, #payloads))) end
if limited then return {gone, suspects, payloads, sizes or {}, took(own, limited, #payloads, queue)} end
return {gone, suspects, payloads, sizes}
