-- Move due jobs from resque-scheduler's lists to their queues (or, unreadable ones, as records to the failed list).
-- KEYS    1 sorted set of seconds  2 what comes before a second in the key of its list  3 …before a payload in that of its lists
--         4 queues  5 failed
-- ARGV    1 msgpack {{payload, queue name or false, queue key, payload to enqueue or bury, effects}, …}  2 what our keys begin with
-- result  {how many were moved, error, …}: a payload that another scheduler moved before us is not counted; one whose queue
--         can't take it stays where it was
local t = now()

-- Takes a payload from the first due list that has it; returns its second.
local function take(payload)
  for _, second in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', t)) do
    if redis.call('LREM', KEYS[2] .. second, 1, payload) == 1 then return second end
  end
end

local function write(name, queue, renewed)
  if name then send({{name, queue, {renewed}, 'RPUSH', KEYS[4]}}, {}) else bury(KEYS[5], renewed, true) end
end

for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
  local payload = entry[1]
  local second = take(payload)
  if second then
    local list = KEYS[2] .. second
    if moved(write, unpack(entry, 2)) then
      redis.call('SREM', KEYS[3] .. payload, 'delayed:' .. second)
      if redis.call('EXISTS', list) == 0 then redis.call('ZREM', KEYS[1], second) end
      if #entry[5] > 0 then apply(ARGV[2], entry[5]) end
    else
      redis.call('LPUSH', list, payload)
    end
  end
end
return result
