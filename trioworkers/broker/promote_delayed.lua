-- Move due jobs from resque-scheduler's lists to their queues (or, unreadable ones, as records to the failed list).
-- work, payloads  as in promote.lua
-- result  {how many were moved, error, …}: a payload that another scheduler moved before us is not counted; one whose queue
--         can't take it stays where it was. Nothing is moved while a process holds resque-scheduler's master lock: it may have read these
if scheduling(lock, inner_lock) then return {0} end
local t = now()

-- Takes a payload from the first due list that has it; returns its second.
local function take(payload)
  for _, second in ipairs(redis.call('ZRANGEBYSCORE', seconds, '-inf', t)) do
    if redis.call('LREM', second_prefix .. second, 1, payload) == 1 then return second end
  end
end

local function write(name, queue, renewed)
  if name then send({{name, queue, {renewed}, 'RPUSH', queues}}, {}) else bury(failed, renewed, true) end
end

for _, entry in ipairs(cmsgpack.unpack(work)) do
  local payload = ARGV[before_payloads + entry[1]]
  local second = take(payload)
  if second then
    local list = second_prefix .. second
    if moved(write, entry[2], entry[3], ARGV[before_payloads + entry[4]]) then
      redis.call('SREM', payload_prefix .. payload, 'delayed:' .. second)
      if redis.call('EXISTS', list) == 0 then redis.call('ZREM', seconds, second) end
      if #entry[5] > 0 then apply(own, entry[5]) end
    else
      redis.call('LPUSH', list, payload)
    end
  end
end
return result
