-- Give the first payload that is too large to be moved about, in the list of a worker that died, back to the fetch end of its queue: as it
-- came, and without leaving Redis. Whoever fetches there knows what may be a job. It is charged with the death, where its jid stands among its
-- first or last fields; charged too often, it is buried, unread.
-- lease, list, suspects  the dead worker's; expected_holder: as in reclaim.lua
-- huge_bytes     what is larger; push: LPUSH or RPUSH
-- before, after  of a record around it, where what is dead lies in a list; else ''
-- most_crashes   with so many it is buried
-- drained, is_shared  as in reclaim.lua
-- result  {size, buried 0|1} of the first that there is, or {}
local holder = redis.call('GET', lease) or ''
if holder ~= expected_holder then return {} end
if holder == '' and is_watched(drained, list, is_shared) then return {} end
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
if holder ~= '' and is_late(last_call, holder, number) then return {} end -- what lies there by now may run
local JID = '"jid"%s*:%s*"([^"\\%c]+)"'
-- Whose it is can't be known for certain: at worst another job is charged once.
local function charge(payload)
  if redis.pcall('HGET', suspects, 'charged') == 'charged' then return 0 end -- see charge.lua
  local jid = string.match(string.sub(payload, 1, 4096), '^%s*{[^%[{]-' .. JID) or string.match(string.sub(payload, -4096), '^.*' .. JID)
  if not jid or #jid > 255 then return 0 end
  local count = redis.pcall('HINCRBY', crashes, jid, 1)
  redis.pcall('EXPIRE', crashes, 259200)
  return type(count) == 'number' and count or 0
end
local function move(payload)
  if charge(payload) < tonumber(most_crashes) then
    redis.call(push, queue, payload)
    return 0
  end
  if before ~= '' then
    redis.call('RPUSH', dead, before .. cjson.encode(payload) .. after)
  else
    bury(dead, payload, false)
  end
  note_unread(unread, payload)
  return 1
end
local index, most = 0, tonumber(huge_bytes)
while true do
  local payload = redis.call('LINDEX', list, index)
  if not payload then return {} end
  local ok, buried
  if #payload > most then ok, buried = pcall(move, payload) end
  if ok then
    redis.call('LREM', list, 1, payload)
    return {#payload, buried} -- each for itself: meanwhile Redis serves nobody else
  end
  index = index + 1
end
