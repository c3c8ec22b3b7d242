-- Shared by the scripts that settle jobs (a prelude, not a script of its own).
-- take(list, payloads, tombstone): take payloads, oldest first, out of an in-progress list. Returns for each whether it was there. `tombstone` is a
-- text that is no payload. Begins with LTRIM or LREM: they may always write, and who began so may go on when Redis is full.
--
-- What ends together began together, mostly, and lies together at the old end of the list. So that end is read, page by page, cut
-- off, and what has to stay put back: a few commands for all, where LREM needs one for each. To read a payload costs 0.3 µs and
-- 1.6 ns a byte, for Lua looks at every byte of a string that it makes; LREM costs 0.7 µs, and 20 ns for each payload that it walks
-- past, of whatever weight. We read as long as that is the cheaper way to find those that are left.

-- Returns at which place from the old end each was found, how many were, what else is there (nearest the end first, as much as may be
-- put back), and whether this was the whole list.
local function read(list, payloads)
  local wanted, also, count, weight = {}, {}, #payloads, 0
  for number = count, 1, -1 do
    local payload = payloads[number]
    wanted[payload], also[number] = number, wanted[payload] -- there may be several of the same bytes
    weight = weight + #payload / count
  end

  local found, others, left, depth, size, page, whole, length = {}, {}, count, 0, 0, 1, false, nil
  local function is_cheaper()
    if weight <= 1000 and depth < 2 * count then return true end
    length = length or redis.call('LLEN', list)
    return left * (length + depth) > (length - depth) * (30 + weight / 6)
  end
  while count >= 10 and left > 0 and not whole and is_cheaper() do
    local there = redis.call('LRANGE', list, -depth - page, -depth - 1)
    for i = #there, 1, -1 do
      local payload = there[i]
      local number = wanted[payload]
      depth, size = depth + 1, size + #payload
      if number then
        found[number], wanted[payload], left = depth, also[number], left - 1
      elseif #others < 4 * count then
        others[#others + 1] = payload
      end
    end
    whole = #there < page
    weight = size / math.max(1, depth)
    -- One first, then more and more, as long as they should fit: huge ones may lie among small ones.
    page = math.max(1, math.floor(math.min(page * 100, 250, math.max(16, left, depth / 2), 1000000 / weight)))
  end
  return found, count - left, others, whole
end

local function take(list, payloads, tombstone)
  local found, count, others, whole = read(list, payloads)
  local cut = 0
  for _, depth in pairs(found) do cut = math.max(cut, depth) end
  local between = cut - count
  if between > 4 * count then -- that would be too much to write anew, to the append-only file and the replicas as well
    redis.call('LTRIM', list, 0, -1)
    for _, depth in pairs(found) do redis.call('LSET', list, -depth, tombstone) end
    redis.call('LREM', list, -count, tombstone)
  elseif count > 0 or whole then
    redis.call('LTRIM', list, 0, -cut - 1)
    local back = {}
    for i = between, 1, -1 do back[#back + 1] = others[i] end
    for i = 1, between, 250 do redis.call('RPUSH', list, unpack(back, i, math.min(i + 249, between))) end
  end

  local taken = {}
  for number, payload in ipairs(payloads) do
    taken[number] = found[number] ~= nil or not whole and redis.call('LREM', list, -1, payload) == 1
  end
  return taken
end

