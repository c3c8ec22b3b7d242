-- Move as many payloads as there are free slots from the queues of a capsule into this worker's in-progress lists: one step for all.
-- places     of each queue: its own, our list, where what is dead lies
-- queues     msgpack {{weight, our list's entry in the registry, fetch_end, before, after, name of its limit over the fleet or '', that as our code has it}, …},
--            in the same order; weights of 0: that order is all that counts. Where there are limits this script is given queue_limit.lua
-- passed     '', or msgpack {those from which nothing is to be taken just now, …}
-- owed       msgpack {which of them → slots that it is behind its share, …}: what we returned the last time, or an empty table
-- renew      1 if our lease may run out soon, for want of heartbeats: who fetches is alive
-- huge_bytes, before, after  see fetching.lua
-- result  {lease was gone 0|1, or 2: and so was all that we had written, 1 or 2 if somebody is suspected, or a batch cancelled, {{which, {payload, …}, {size of what was buried, …}}, …},
--         owed, {which, error, …} of those that can't be read, {which, after how many ms to come again or -1: when something is in the queue, …} of
--         those under a limit in which there was something}; error SUPERSEDED if another holds our process id
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
local served = cmsgpack.unpack(queues)
local function key_of(number, which) return KEYS[before_places + 3 * (number - 1) + which] end
redis.pcall('LTRIM', key_of(1, 2), 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local gone = 0
if holder and renew == '1' then redis.call('PEXPIRE', lease, lease_ms) end
if not holder then -- we were cut off; who fetches is alive
  redis.call('DEL', drained)
  redis.call('SET', lease, ours, 'PX', lease_ms)
  gone = 2 - redis.call('HEXISTS', registry, key_of(1, 2))
  for number, told in ipairs(served) do redis.call('HSET', registry, key_of(number, 2), told[2]) end
end

-- Which of them have something, and how much.
local is_passed, active, errors = {}, {}, {}
for _, number in ipairs(passed == '' and {} or cmsgpack.unpack(passed)) do is_passed[number] = true end
for number, told in ipairs(served) do
  local length = is_passed[number] and 0 or redis.pcall('LLEN', key_of(number, 1))
  if length ~= 0 then
    -- The write changes nothing, but fails here, before anything is taken, if that is no list.
    local wrong = type(length) == 'table' and length.err or redis.pcall('LTRIM', key_of(number, 2), 0, -1).err
    if wrong then
      errors[#errors + 1] = number
      errors[#errors + 1] = wrong
    else
      active[#active + 1] = {
        number = number, weight = told[1], fetch_end = told[3], before = told[4], after = told[5], has = length, count = 0, taken = 0, passed_on = 0, owed = 0, behind = 0,
        limit_name = told[6], limit_spec = told[7], queue = key_of(number, 1), list = key_of(number, 2), dead = key_of(number, 3), unread = unread, huge_bytes = tonumber(huge_bytes)
      }
    end
  end
end

-- What limits leave of it. Queues under the same one have so much between them.
local limits, budgets = {}, {}
for _, q in ipairs(active) do
  if q.limit_name ~= '' then redis.call('SADD', own .. 'lists:' .. q.limit_name, q.list) end
end
for _, q in ipairs(active) do
  local name = q.limit_name
  if name ~= '' then
    if not limits[name] then
      limits[name] = queue_limit(own, name, cmsgpack.unpack(q.limit_spec), q.list)
      budgets[name] = may_take(limits[name], tonumber(limit))
    end
    q.has = math.min(q.has, budgets[name])
  end
end

-- Whose the free slots are. By weight: of `left` slots each has its share, and what it was behind by; who has less than that leaves the rest to the
-- others. Fractions go to those that are most behind, and are owed: so shares are exact in the long run. Who has nothing is owed nothing.
local by_weight = served[1][1] > 0
local function share_by_weight(left)
  local behind, sharing = cmsgpack.unpack(owed), active
  local sum, all_owed, fewer
  repeat
    sum, all_owed, fewer = 0, 0, {}
    for _, q in ipairs(sharing) do
      q.behind = tonumber(behind[q.number]) or 0
      q.owed = q.behind
      sum, all_owed = sum + q.weight, all_owed + q.owed
    end
    for _, q in ipairs(sharing) do
      q.owed = q.owed - all_owed * q.weight / sum
      q.share = q.owed + left * q.weight / sum
    end
    for _, q in ipairs(sharing) do
      if q.share >= q.has then q.count, q.owed, left = math.min(q.has, left), 0, left - math.min(q.has, left) else fewer[#fewer + 1] = q end
    end
    local were = #sharing
    sharing = fewer
  until #sharing == 0 or #sharing == were or left == 0
  table.sort(sharing, function(a, b) return a.share > b.share end)
  for _, q in ipairs(sharing) do
    q.count = math.max(0, math.min(math.floor(q.share), left))
    left = left - q.count
  end
  table.sort(sharing, function(a, b) return a.share - a.count > b.share - b.count end)
  for i = 1, math.min(left, #sharing) do sharing[i].count = sharing[i].count + 1 end
  return sharing, sum
end

local sharing, sum = {}, 1
if by_weight then
  sharing, sum = share_by_weight(tonumber(limit))
  table.sort(active, function(a, b) return a.behind > b.behind end) -- who gets less than its share for want of bytes is the first one the next time
else
  local left = tonumber(limit)
  for _, q in ipairs(active) do
    q.count = math.min(q.has, left)
    left = left - q.count
  end
end

local suspects, bytes, fetched, again, in_company = redis.call('EXISTS', crashes, cancelled), tonumber(max_bytes), {}, {}, false
for _, q in ipairs(active) do
  local budget = budgets[q.limit_name]
  if budget then q.count = math.min(q.count, budget) end
  if q.count > 0 and bytes > 0 then
    local payloads, sizes, is_full = move_into(q, q.count, bytes, in_company)
    for _, payload in ipairs(payloads) do bytes = bytes - #payload end
    if is_full then bytes = 0 end
    in_company = in_company or #payloads > 0
    q.taken, q.passed_on = #payloads + (sizes and #sizes or 0), #payloads
    fetched[#fetched + 1] = {q.number, payloads, sizes or {}}
    if budget then -- whoever looked at the limit may have left our list out, which was empty then
      budgets[q.limit_name] = budget - #payloads
      redis.call('SADD', own .. 'lists:' .. q.limit_name, q.list)
    end
  end
end

local total, still_owed = 0, {}
for _, q in ipairs(active) do
  if by_weight and q.taken < q.count then still_owed[q.number] = q.count - q.taken end
end
for _, q in ipairs(sharing) do total = total + q.taken end
for _, q in ipairs(sharing) do
  local behind = q.owed + total * q.weight / sum - q.taken
  still_owed[q.number] = behind ~= 0 and math.max(-1e6, math.min(1e6, behind)) or nil
end
for _, q in ipairs(active) do
  if q.limit_name ~= '' then
    again[#again + 1] = q.number
    again[#again + 1] = took(own, limits[q.limit_name], q.passed_on, q.queue)
  end
end
return {gone, suspects, fetched, cmsgpack.pack(still_owed), errors, again}
