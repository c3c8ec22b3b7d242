-- Move due payloads from the retry or schedule set to their queues (or, unreadable ones, to the dead set as they are).
-- KEYS    1 retry or schedule  2 queues  3 dead
-- ARGV    1 msgpack {{payload, queue name or false, queue key, payload to enqueue or bury}, …}
--         2 LPUSH or RPUSH  3 1 if what is dead lies in a list
-- result  {how many were moved, error, …}: a payload that another worker moved before us is not counted; one whose queue
--         can't take it stays where it was
redis.call('ZREMRANGEBYRANK', KEYS[1], 1, 0) -- removes nothing, but who began with it may go on when Redis is full
local t, moved, errors = now(), 0, {}
for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
  local payload, name, queue, renewed = unpack(entry)
  local score = redis.call('ZSCORE', KEYS[1], payload)
  if score and tonumber(score) <= t then
    local ok, problem
    if name then
      ok, problem = pcall(redis.call, ARGV[2], queue, renewed)
      if ok then redis.call('SADD', KEYS[2], name) end
    else
      ok, problem = pcall(bury, KEYS[3], renewed, ARGV[3] == '1')
    end
    if ok then
      redis.call('ZREM', KEYS[1], payload)
      moved = moved + 1
    else
      errors[#errors + 1] = type(problem) == 'table' and problem.err or tostring(problem)
    end
  end
end
return {moved, unpack(errors)}
