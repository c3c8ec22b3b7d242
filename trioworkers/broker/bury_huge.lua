-- Bury what lies in our in-progress list and is too large to be moved about: as it came, unread, and without leaving Redis.
-- huge_bytes     what is larger was never started
-- before, after  of a record around it, where what is dead lies in a list; else ''
-- result  the size of the first that is, and was buried, or nothing: each for itself, for meanwhile Redis serves nobody else; error SUPERSEDED if another holds our process id
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
local index, most = 0, tonumber(huge_bytes)
while true do
  local payload = redis.call('LINDEX', list, index)
  if not payload then return {} end
  if #payload > most then
    if before ~= '' then
      redis.call('RPUSH', dead, before .. cjson.encode(payload) .. after)
    else
      local t = redis.call('TIME')
      redis.call('ZADD', dead, t[1] + t[2] / 1000000, payload)
    end
    redis.call('LREM', list, 1, payload)
    note_unread(unread, payload)
    return {#payload}
  end
  index = index + 1
end
