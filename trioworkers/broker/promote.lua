-- Move due payloads from the retry or schedule set to their queues (or, unreadable ones, to the dead set as they are).
-- work  {{payload, queue name or false, queue key, payload to enqueue or bury, effects}, …}
-- push  LPUSH or RPUSH; in_list: 1 if what is dead lies in a list
-- result  {how many were moved, error, …}: a payload that another worker moved before us is not counted; one whose queue
--         can't take it stays where it was
redis.call('ZREMRANGEBYRANK', due_set, 1, 0) -- removes nothing, but who began with it may go on when Redis is full
local t = now()
local function write(name, queue, renewed)
  if name then send({{name, queue, {renewed}, push, queues}}, {}) else bury(dead, renewed, in_list == '1') end
end
for _, entry in ipairs(cmsgpack.unpack(work)) do
  local score = redis.call('ZSCORE', due_set, entry[1])
  if score and tonumber(score) <= t and moved(write, unpack(entry, 2)) then
    redis.call('ZREM', due_set, entry[1])
    if #entry[5] > 0 then apply(own, entry[5]) end
  end
end
return result
