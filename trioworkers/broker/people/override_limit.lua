-- What people want of a limit instead of what the code says, at once and until they say otherwise.
-- name  a limit's: LIMIT, LIMIT:KEY or @LIMIT
-- wanted  {concurrency or false, seconds between two starts or false, burst or false}: false leaves it as it is
-- how     'set', 'close' (for close_s seconds; 0: until it is opened), 'open', 'reset'
-- result  1; 0: there is no such limit
local base = string.match(name, '^@') and name or string.match(name, '^[^:]*')
if redis.call('HEXISTS', own .. 'limits', base) + redis.call('HEXISTS', own .. 'overrides', name) == 0 then return 0 end
local before, o = unpacked(redis.call('HGET', own .. 'overrides', name)) or {}, cmsgpack.unpack(wanted)
local is_closed, seconds = before[4] == 1 and 1 or 0, tonumber(close_s)
if how == 'close' and seconds == 0 then is_closed = 1 end
if how == 'open' then is_closed = 0 end
local new = {o[1] or before[1] or false, o[2] or before[2] or false, o[3] or before[3] or false, is_closed}
if how == 'reset' or not (new[1] or new[2] or new[3] or new[4] == 1) then
  redis.call('HDEL', own .. 'overrides', name)
else
  redis.call('HSET', own .. 'overrides', name, cmsgpack.pack(new))
end
local function gate_of(each)
  local l = limit_of(own, each)
  if how == 'open' then
    l.closed = 0
    dirty[each] = true
  elseif how == 'close' and seconds > 0 then
    close(own, each, seconds)
  end
end
gate_of(name)
for _, each in ipairs(redis.call('ZRANGE', own .. 'waits', 0, 999)) do
  if each == name or string.match(each, '^[^:]*') == name then
    gate_of(each)
    pcall(fill, own, each)
  end
end
write_gates(own)
return 1
