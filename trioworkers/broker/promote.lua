-- Move due payloads from the retry or schedule set to their queues (or, unreadable ones, to the dead set as they are).
-- work  {{number of a payload, queue name or false, queue key, number of the payload to enqueue or bury, effects}, …}
-- payloads  as they are: each string that is unpacked here costs 2 ns a byte more
-- push  LPUSH or RPUSH; in_list: 1 if what is dead lies in a list
-- result  {how many were moved, error, …}: a payload that another worker moved before us is not counted; one whose queue
--         can't take it stays where it was
redis.call('ZREMRANGEBYRANK', due_set, 1, 0) -- removes nothing, but who began with it may go on when Redis is full
local t = now()
local function write(name, queue, renewed)
  if name then send({{name, queue, {renewed}, push, queues}}, {}) else bury(dead, renewed, in_list == '1') end
end
for _, entry in ipairs(cmsgpack.unpack(work)) do
  local payload = ARGV[before_payloads + entry[1]]
  local score = redis.call('ZSCORE', due_set, payload)
  if score and tonumber(score) <= t and moved(write, entry[2], entry[3], ARGV[before_payloads + entry[4]]) then
    redis.call('ZREM', due_set, payload)
    if #entry[5] > 0 then apply(own, entry[5]) end
  end
end
return result
