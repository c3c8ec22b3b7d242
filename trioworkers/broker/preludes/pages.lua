-- Shared by the scripts that read payloads (a prelude, not a script of its own).
-- in_pages(count, bytes, read, at_once): up to so many payloads, but no more after so many bytes. read(offset, n) returns the next n, if there
-- are as many. Returns them, and whether there may be more.
-- One first, then more and more, as long as they should fit by what those before weigh: a few commands for all. Small pages: what they
-- weigh is known when they are read, and huge ones may follow small ones. For 50 MB to come into Lua takes a tenth of a second.
-- at_once: so many with one command, at most; 1 where a command more costs little (a microsecond) and many huge ones may lie: none but the last is one too many
local function in_pages(count, bytes, read, at_once)
  local result, size, page = {}, 0, 1
  while #result < count and size < bytes do
    page = math.min(page, at_once or 100, count - #result)
    local payloads = read(#result, page)
    for _, payload in ipairs(payloads) do
      result[#result + 1] = payload
      size = size + #payload
    end
    if #payloads < page then return result, false end
    page = math.max(1, math.min(page * 4, math.floor((bytes - size) * #result / math.max(1, size))))
  end
  return result, true
end


-- scan(set, cursor, count, bytes, look): the same for a sorted set, in no order: look(member, score) at each, of some more than `count` at most, and at no more after
-- so many bytes. What is there all the time is seen. Returns the next cursor, '0' when all were seen.
local function scan(set, cursor, count, bytes, look)
  local seen, size = 0, 0
  repeat
    local found = redis.call('ZSCAN', set, cursor, 'COUNT', 2)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      seen, size = seen + 1, size + #found[2][i]
      look(found[2][i], found[2][i + 1])
    end
  until cursor == '0' or seen >= count or size >= bytes
  return cursor
end
