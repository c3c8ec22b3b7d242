-- Shared by the scripts that fetch (a prelude, not a script of its own; after pages.lua and unread.lua).
-- move_into(at, wanted, max_bytes, in_company): up to so many payloads, and no more after so many bytes, from a queue into an in-progress list. Whoever calls has
-- tried a write on that list which changes nothing: once something is taken nothing may fail.
-- at      {queue, list, fetch_end, huge_bytes, dead, before, after, unread}: what is larger than huge_bytes is buried at once, as it came, unread, and
--         without leaving Redis: nobody would run it. before, after: of a record around it, where what is dead lies in a list; else ''
-- in_company  whether something goes with them already
-- Returns the payloads, the sizes of what was buried or nil, and whether nothing may go with them.
local function bury_huge(at, payload)
  if at.before ~= '' then
    return pcall(function() redis.call('RPUSH', at.dead, at.before .. cjson.encode(payload) .. at.after) end)
  end
  local t = redis.call('TIME')
  return pcall(redis.call, 'ZADD', at.dead, t[1] + t[2] / 1000000, payload)
end

-- What is large (see LARGE_BYTES, by which it is told later) is moved alone: whoever dies of receiving or reading it takes nobody along. The others are
-- put back. Returns whether nothing may go with what is left.
local function keep_large_apart(at, payloads, large, in_company)
  if not large then return false end
  local kept = large - 1
  if kept == 0 and not in_company then kept = 1 end
  for i = #payloads, kept + 1, -1 do
    redis.call(at.fetch_end == 'LEFT' and 'LPUSH' or 'RPUSH', at.queue, payloads[i])
    payloads[i] = nil
  end
  return large == 1
end

local function move_into(at, wanted, max_bytes, in_company)
  local pop = at.fetch_end == 'LEFT' and 'LPOP' or 'RPOP'
  local payloads = in_pages(wanted, max_bytes, function(_, count) return redis.call(pop, at.queue, count) or {} end)
  local sizes, large = nil, nil
  for i = #payloads, 1, -1 do
    if #payloads[i] > 1048576 then
      if #payloads[i] > at.huge_bytes and bury_huge(at, payloads[i]) then -- else it goes the way of the others
        sizes = sizes or {}
        sizes[#sizes + 1] = #payloads[i]
        note_unread(at.unread, payloads[i])
        table.remove(payloads, i)
        large = large and large - 1
      else
        large = i
      end
    end
  end
  local is_full = keep_large_apart(at, payloads, large, in_company)
  for first = 1, #payloads, 250 do
    redis.call('LPUSH', at.list, unpack(payloads, first, math.min(first + 249, #payloads)))
  end
  return payloads, sizes, is_full
end
