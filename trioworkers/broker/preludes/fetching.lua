-- Shared by the scripts that fetch (a prelude, not a script of its own; after pages.lua and unread.lua).
-- move_into(at, wanted, max_bytes): up to so many payloads, and no more after so many bytes, from a queue into an in-progress list. Whoever calls has
-- tried a write on that list which changes nothing: once something is taken nothing may fail.
-- at      {queue, list, fetch_end, huge_bytes, dead, before, after, unread}: what is larger than huge_bytes is buried at once, as it came, unread, and
--         without leaving Redis: nobody would run it. before, after: of a record around it, where what is dead lies in a list; else ''
-- Returns the payloads, and the sizes of what was buried or nil.
local function bury_huge(at, payload)
  if at.before ~= '' then
    return pcall(function() redis.call('RPUSH', at.dead, at.before .. cjson.encode(payload) .. at.after) end)
  end
  local t = redis.call('TIME')
  return pcall(redis.call, 'ZADD', at.dead, t[1] + t[2] / 1000000, payload)
end

local function move_into(at, wanted, max_bytes)
  local pop = at.fetch_end == 'LEFT' and 'LPOP' or 'RPOP'
  local payloads = in_pages(wanted, max_bytes, function(_, count) return redis.call(pop, at.queue, count) or {} end)
  local sizes = nil
  for i = #payloads, 1, -1 do
    if #payloads[i] > at.huge_bytes and bury_huge(at, payloads[i]) then -- else it goes the way of the others
      sizes = sizes or {}
      sizes[#sizes + 1] = #payloads[i]
      note_unread(at.unread, payloads[i])
      table.remove(payloads, i)
    end
  end
  for first = 1, #payloads, 250 do
    redis.call('LPUSH', at.list, unpack(payloads, first, math.min(first + 249, #payloads)))
  end
  return payloads, sizes
end

