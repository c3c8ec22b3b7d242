-- Shared by the scripts that bury what is too large to be read (a prelude, not a script of its own).
-- note_unread(key, payload): its end is an exit like any other, and what it holds is named in it. Nobody can read all of it; what is ours stands at
-- its beginning or its end. That is noted for upkeep, which asks. Most hold nothing of ours.
local PIECE, UNREAD = 8192, 1000
local function note_unread(key, payload)
  local head, tail = string.sub(payload, 1, PIECE), string.sub(payload, -PIECE)
  if not string.find(head, '"tw_', 1, true) and not string.find(tail, '"tw_', 1, true) then return end
  redis.pcall('RPUSH', key, cmsgpack.pack({head, tail}))
  redis.pcall('LTRIM', key, -UNREAD, -1)
end

