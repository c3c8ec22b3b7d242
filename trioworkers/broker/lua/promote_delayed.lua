-- Move due jobs from resque-scheduler's lists to their queues (or, unreadable ones, as records to the failed list).
-- KEYS    1 sorted set of seconds  2 what comes before a second in the key of its list  3 …before a payload in that of its lists
--         4 queues  5 failed
-- ARGV    1 msgpack {{payload, queue name or false, queue key, payload to enqueue or bury}, …}
-- result  {how many were moved, error, …}: a payload that another scheduler moved before us is not counted; one whose queue
--         can't take it stays where it was
local t, moved, errors = now(), 0, {}

-- Takes a payload from the first due list that has it; returns its second.
local function take(payload)
  for _, second in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', t)) do
    if redis.call('LREM', KEYS[2] .. second, 1, payload) == 1 then return second end
  end
end

for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
  local payload, name, queue, renewed = unpack(entry)
  local second = take(payload)
  if second then
    local list, lists = KEYS[2] .. second, KEYS[3] .. payload
    local ok, problem
    if name then
      ok, problem = pcall(redis.call, 'RPUSH', queue, renewed)
      if ok then redis.call('SADD', KEYS[4], name) end
    else
      ok, problem = pcall(bury, KEYS[5], renewed, true)
    end
    if ok then
      moved = moved + 1
      redis.call('SREM', lists, 'delayed:' .. second)
      if redis.call('EXISTS', list) == 0 then redis.call('ZREM', KEYS[1], second) end
    else
      redis.call('LPUSH', list, payload)
      errors[#errors + 1] = type(problem) == 'table' and problem.err or tostring(problem)
    end
  end
end
return {moved, unpack(errors)}
