-- Before and after the commands that take large payloads out of the in-progress lists, in one MULTI: Lua would look at every byte of each.
-- step     'before' or 'after'
-- group    see settle.lua, as all the others
-- count    how many payloads it takes out
-- lists    a list, and a name for it between the two, and so on. Where the group is not to be written no list has that name, and the commands find nothing
-- result   'before': nothing, or why it isn't written: the result that it had when it was, or an error. 'after': nothing
local function each(act)
  for i = before_lists + 1, #KEYS, 2 do act(KEYS[i], KEYS[i + 1]) end
end

if step == 'before' then
  each(function(_, apart) redis.call('DEL', apart) end) -- what somebody else has left there must not be taken for ours, if we go no further
  local number = tonumber(group)
  local refused = fence(lease, last_settle, ours, number)
  if refused then return refused end
  each(function(list, apart) -- fails here, before anything is renamed, if one is no list, or our user may not do what it takes to give it its name back
    redis.call('LLEN', list)
    redis.call('RPUSH', apart, 'tw:?') -- stays there if we go no further, and says so
    redis.call('RENAME', apart, apart)
    redis.call('RPOP', apart)
  end)
  each(function(list, apart)
    local length = redis.call('LLEN', list)
    -- Either may always write, and who began so may go on when Redis is full.
    if length > 0 then redis.call('RENAME', list, apart) end
    redis.call('RPUSH', apart, 'tw:' .. length) -- which is no payload, and keeps the list there when all are taken
  end)
else
  local taken, written = 0, true
  each(function(list, apart)
    local length = string.match(redis.call('RPOP', apart) or '', '^tw:(%d+)$')
    if not length then written = false return end
    taken = taken + tonumber(length)
    local left = redis.call('LLEN', apart)
    if left > 0 then redis.call('RENAME', apart, list) end
    taken = taken - left
  end)
  if written then
    count_up(processed_in_all, processed_then, taken)
    -- If the reply is lost, who asks again is told how many were not there; which, only the reply of each command said.
    local missing = tonumber(count) - taken
    local result = missing > 0 and {{-1, tostring(missing)}} or {}
    redis.call('SET', last_settle, cmsgpack.pack({ours, tonumber(group), cmsgpack.pack(result)}), 'EX', 86400)
  end
end
