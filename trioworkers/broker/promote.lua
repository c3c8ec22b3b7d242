-- Move due payloads from the retry or schedule set to their queues (or, unreadable ones, to the dead set as they are).
-- KEYS    1 retry or schedule  2 queues  3 dead
-- ARGV    1 msgpack {{payload, queue name or false, queue key, payload to enqueue or bury, effects}, …}
--         2 LPUSH or RPUSH  3 1 if what is dead lies in a list  4 what our keys begin with
-- result  {how many were moved, error, …}: a payload that another worker moved before us is not counted; one whose queue
--         can't take it stays where it was
redis.call('ZREMRANGEBYRANK', KEYS[1], 1, 0) -- removes nothing, but who began with it may go on when Redis is full
local t = now()
local function write(name, queue, renewed)
  if name then send({{name, queue, {renewed}, ARGV[2], KEYS[2]}}, {}) else bury(KEYS[3], renewed, ARGV[3] == '1') end
end
for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
  local score = redis.call('ZSCORE', KEYS[1], entry[1])
  if score and tonumber(score) <= t and moved(write, unpack(entry, 2)) then
    redis.call('ZREM', KEYS[1], entry[1])
    if #entry[5] > 0 then apply(ARGV[4], entry[5]) end
  end
end
return result
