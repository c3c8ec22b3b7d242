-- Shared by the scripts by which unique jobs are sent, start and end (a prelude, not a script of its own; after limits.lua).
-- `own` is what all keys of ours begin with: `tw:`, behind the namespace. Under it lie
--   unique        hash: KEY → msgpack LOCK
--   next          sorted set: the payloads of those that are to take a lock over, by when they were sent, no two at the same time
--   throttle:KEY  string with expiry: jid of the one job that was sent in this spell
-- LOCK {jid that has it, since, touched: when it moved last, NEXT or false, when it is due or false, effects of its replacement}
-- NEXT {when it was sent, jid, queue, its key, how to push, key of the set of queues, when it is due or false, the sorted set where it waits for that
--       or false, 1 if it follows the one that runs, effects of its replacement}
-- Those that are sent but don't go out, nor wait to take a lock over, are noted in `unsent`: no batch counts them.
-- One hash for all, which a group of jobs reads and writes as one. What can't be read there is no lock.

local locks, changed_locks, unsent = {}, {}, {}

local function is_sound(n)
  return type(n) == 'table' and type(n[1]) == 'string' and type(n[2]) == 'string' and type(n[3]) == 'string' and type(n[4]) == 'string'
    and (n[5] == 'LPUSH' or n[5] == 'RPUSH') and type(n[6]) == 'string' and type(n[10]) == 'table'
end

local function read_lock(packed)
  local known, l = pcall(cmsgpack.unpack, packed or '')
  if not (known and type(l) == 'table' and type(l[1]) == 'string' and type(l[2]) == 'number' and type(l[3]) == 'number') then return false end
  if not is_sound(l[4]) then l[4] = false end
  if type(l[5]) ~= 'number' then l[5] = false end
  if type(l[6]) ~= 'table' then l[6] = {} end
  return l
end

local function read_locks(own, keys)
  local missing, asked = {}, {}
  for _, key in ipairs(keys) do
    if locks[key] == nil and not asked[key] then
      asked[key] = true
      missing[#missing + 1] = key
    end
  end
  for first = 1, #missing, 1000 do
    local last = math.min(first + 999, #missing)
    local found = redis.call('HMGET', own .. 'unique', unpack(missing, first, last))
    for i = first, last do locks[missing[i]] = read_lock(found[i - first + 1]) end
  end
end

local function set_lock(key, lock)
  locks[key], changed_locks[key] = lock, true
end

local function write_locks(own)
  local set, gone = {}, {}
  for key in pairs(changed_locks) do
    if locks[key] then
      set[#set + 1], set[#set + 2] = key, cmsgpack.pack(locks[key])
    else
      gone[#gone + 1] = key
    end
  end
  changed_locks = {}
  for first = 1, #set, 1000 do redis.call('HSET', own .. 'unique', unpack(set, first, math.min(first + 999, #set))) end
  for first = 1, #gone, 1000 do redis.call('HDEL', own .. 'unique', unpack(gone, first, math.min(first + 999, #gone))) end
end

local function at_score(set, score)
  local text = type(score) == 'number' and string.format('%.17g', score) or score
  return redis.call('ZRANGEBYSCORE', set, text, text, 'LIMIT', 0, 20)
end

-- What is to take the lock over, if nobody has deleted it from where it waits.
local function next_payload(own, lock)
  return lock[4] and at_score(own .. 'next', lock[4][1])[1]
end

local function drop_next(own, lock)
  local payload = next_payload(own, lock)
  if payload then
    redis.call('ZREM', own .. 'next', payload)
    apply(own, lock[4][10])
  end
  lock[4] = false
end

-- way: {queue, its key, how to push, key of the set of queues, due or false, sorted set or false}
local function keep_next(own, lock, payload, jid, way, follows, effects)
  drop_next(own, lock)
  local at = string.format('%.17g', now())
  while redis.call('ZCOUNT', own .. 'next', at, at) > 0 do at = string.format('%.17g', now()) end
  while redis.call('ZADD', own .. 'next', 'NX', at, payload) == 0 do payload = payload .. blanks() end
  lock[4] = {at, jid, way[1], way[2], way[3], way[4], way[5], way[6], follows, effects}
  lock[3] = now()
end

-- The job has ended for good. What is to follow it has the lock now, and goes where it waits for its turn; without such the lock is free.
local function unlock(own, key, jid)
  local l = locks[key]
  if not l or l[1] ~= jid then return end
  local n, payload, after = l[4], next_payload(own, l), false
  if payload and n[9] == 1 then
    local due = type(n[7]) == 'number' and type(n[8]) == 'string' and n[7] > now() and n[7]
    if due then send({}, {{payload, 0, due, n[8]}}) else send({{n[3], n[4], {payload}, n[5], n[6]}}, {}) end
    local t = now()
    after = {n[2], t, t, false, due, n[10]}
  end
  if payload then
    redis.call('ZREM', own .. 'next', payload)
    if not after then apply(own, n[10]) end
  end
  set_lock(key, after)
end

local function keys_of(list)
  local keys = {}
  for i, e in ipairs(list) do keys[i] = e[2] end
  return keys
end

local function unlock_all(own, list)
  read_locks(own, keys_of(list))
  for _, e in ipairs(list) do
    if not pcall(unlock, own, e[2], e[3]) then redis.pcall('RPUSH', own .. 'repairs', cmsgpack.pack({e})) end -- what follows can't be pushed now
  end
  write_locks(own)
end

local function touch_all(own, list)
  read_locks(own, keys_of(list))
  for _, e in ipairs(list) do
    local l = locks[e[2]]
    if l and (not e[3] or l[1] == e[3]) then
      l[3] = now()
      changed_locks[e[2]] = true
    end
  end
  write_locks(own)
end

-- The lock that a payload names, without reading it; of whoever says so within its arguments, too.
local function named_lock(payload)
  return string.find(payload, '"tw_lock"', 1, true) and string.match(payload, '"tw_lock"%s*:%s*"([%w_.:-]+)')
end

-- Payloads have moved. To note that for a lock which none of them has does no harm.
touch_named = function(own, payloads)
  local list = {}
  for _, payload in ipairs(payloads) do
    local key = named_lock(payload)
    if key then list[#list + 1] = {'touch', key} end
  end
  if #list > 0 then pcall(touch_all, own, list) end
end

-- A debounced job that still waits for its time is replaced there.
local function moved_on(own, lock, item, l)
  for _, payload in ipairs(lock[5] and at_score(l[4], lock[5]) or {}) do
    if string.find(payload, '"jid":"' .. lock[1] .. '"', 1, true) then
      redis.call('ZREM', l[4], payload)
      apply(own, lock[6])
      l[3] = math.min(l[3], lock[2] + item[6])
      lock[1], lock[3], lock[5], lock[6] = item[2], now(), l[3], item[7]
      return true
    end
  end
  return false
end

-- What becomes of one unique job that is sent: whether it goes out, who is there already, and whether it is kept to take over from that one. way: {queue, its key, how to push, key of the set of
-- queues}; l: its entry of `later`, of one that is to wait for its time; given_up: {KEY, jid} of a job that ends in this very step.
local function decide_unique(own, item, way, l, given_up)
  local jid, key, policy = item[2], item[3], item[4]
  if policy == 'throttle' then
    local spell = own .. 'throttle:' .. key
    local there = redis.pcall('GET', spell)
    if type(there) == 'string' then return false, there end
    redis.call('SET', spell, jid, 'PX', item[5])
    return true
  end
  local lock, t = locks[key], now()
  if policy == 'debounce' then l[3] = l[3] or t + l[2] end
  if not lock or given_up and given_up[1] == key and given_up[2] == lock[1] then -- what was to follow the one that ends follows this one
    set_lock(key, {jid, t, t, lock and lock[4] or false, policy == 'debounce' and l[3] or false, item[7]})
    return true
  end
  local holder = lock[1]
  if holder == jid or policy == 'skip' or policy == 'raise' then return false, holder end
  changed_locks[key] = true
  if policy == 'debounce' and moved_on(own, lock, item, l) then return true, holder end
  local due, place = l and (l[3] or t + l[2]), l and l[4]
  if type(place) ~= 'string' then due, place = false, false end
  keep_next(own, lock, item[1], jid, {way[1], way[2], way[3], way[4], due, place}, policy == 'replace' and 0 or 1, item[7])
  return false, holder, true
end

-- The unique jobs among those that are to be sent take their locks, or don't go out. In `push` and `later` (see send.lua) each stands in the place of its
-- payload as {payload, jid, KEY, 'skip' | 'raise' | 'replace' | 'latest' | 'debounce' | 'throttle', ms that a spell lasts, longest wait, effects of its
-- replacement, its number, way}. `ops`: of batches (see batches.lua), among whose successors they stand likewise; these may only 'skip', 'raise' or 'throttle'. Returns {number, jid of who is there, …}. An error, before anything is written: DUPLICATE number jid; a key of the wrong type.
local function take_locks(own, push, later, given_up, ops)
  local items, keys = {}, {}
  local function note(item, way, l)
    items[#items + 1] = {item, way, l}
    if item[4] ~= 'throttle' then keys[#keys + 1] = item[3] end
  end
  for _, p in ipairs(push) do
    for _, item in ipairs(p[3]) do
      if type(item) == 'table' then note(item, {p[1], p[2], p[4], p[5]}) end
    end
  end
  for _, l in ipairs(later) do
    if type(l[1]) == 'table' then note(l[1], l[1][9], l) end
  end
  for _, op in ipairs(ops or {}) do
    for _, s in ipairs(op[5]) do
      if type(s[2]) == 'table' then note(s[2], s[3]) end
    end
  end
  unsent = {}
  table.sort(items, function(a, b) return a[1][8] < b[1][8] end)
  look('HLEN', own .. 'unique')
  look('ZCARD', own .. 'next')
  look_at(push, later)
  read_locks(own, keys)
  local first = {}
  for _, i in ipairs(items) do
    local item, lock = i[1], locks[i[1][3]]
    local is_given = lock and given_up and given_up[1] == item[3] and given_up[2] == lock[1]
    local there = first[item[3]] or lock and not is_given and lock[1]
    if there and item[4] == 'raise' then error({err = 'DUPLICATE ' .. item[8] .. ' ' .. there}) end
    first[item[3]] = there or item[2]
  end
  local answer, goes = {}, {}
  for _, i in ipairs(items) do
    local goes_out, there, is_kept = decide_unique(own, i[1], i[2], i[3], given_up)
    goes[i[1]] = goes_out
    if not goes_out and not is_kept then unsent[i[1][2]] = true end
    if there then answer[#answer + 1], answer[#answer + 2] = i[1][8], there end
  end
  for _, p in ipairs(push) do
    local payloads = {}
    for _, item in ipairs(p[3]) do
      if type(item) ~= 'table' then payloads[#payloads + 1] = item elseif goes[item] then payloads[#payloads + 1] = item[1] end
    end
    p[3] = payloads
  end
  for n = #later, 1, -1 do
    local item = later[n][1]
    if type(item) == 'table' then
      if goes[item] then later[n][1] = item[1] else table.remove(later, n) end
    end
  end
  for _, op in ipairs(ops or {}) do
    for n = #op[5], 1, -1 do
      local item = op[5][n][2]
      if type(item) == 'table' then
        if goes[item] then op[5][n][2] = item[1] else table.remove(op[5], n) end
      end
    end
  end
  write_locks(own)
  return answer
end
