-- Bury the largest payload in our in-progress list that doesn't run here: as it came, unread, and without leaving Redis, for the link can't carry it.
-- more_than      smaller ones it can
-- before, after  of a record around it, where what is dead lies in a list; else ''
-- known          SHA-1 of those that run here, of that size
-- result  its size; 0 if there is none; error SUPERSEDED if another holds our process id
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
if is_late(last_call, ours, number) then return 0 end -- what lies there by now may run
local runs = {}
for i = before_known + 1, #ARGV do runs[ARGV[i]] = true end
local largest, index, size = nil, 0, tonumber(more_than)
while true do
  local payload = redis.call('LINDEX', list, index)
  if not payload then break end
  if #payload > size and not runs[redis.sha1hex(payload)] then largest, size = payload, #payload end
  index = index + 1
end
if not largest then return 0 end
if before ~= '' then
  redis.call('RPUSH', dead, before .. cjson.encode(largest) .. after)
else
  bury(dead, largest, false)
end
redis.call('LREM', list, 1, largest)
note_unread(unread, largest)
return size
