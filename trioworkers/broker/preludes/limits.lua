-- Shared by the scripts that give permits or let them go (a prelude, not a script of its own; after send.lua).
-- `own` is what all keys of ours begin with: `tw:`, behind the namespace. Under it lie
--   limits         hash: name of a limit → msgpack {concurrency, since, seen}
--   permits:NAME   set: the attempts that run under it, each by the member that its worker keeps in `holds:PROCESS QUEUE`
--   reserved:NAME  sorted set: jid → when the permit that is kept for that job is anybody's again
--   waiting:NAME   sorted set: by when it was parked, what is to be known of a parked job without reading it: msgpack
--                  {when, jid, queue, its key, how to push to the end that is fetched, {limit, …}, expires or false, effects}
--   parked         sorted set: the payloads of all limits by when they were parked, no two at the same time
--   holds:PROCESS QUEUE  hash beside an in-progress list: member → msgpack {jid, {limit, …}}
-- Who has a permit in none of these has none: nothing here rests on a timer but the reservations.

local RESERVED_S = 30
local FILL_PAGE, FILL_PAGES = 50, 4

local states, paused = {}, {}
local function limit_of(own, name, declared)
  local l = states[name]
  if l then return l end
  l = {name = name, permits = own .. 'permits:' .. name, reserved = own .. 'reserved:' .. name, waiting = own .. 'waiting:' .. name}
  local known, stored = pcall(cmsgpack.unpack, redis.call('HGET', own .. 'limits', name) or '')
  local concurrency = known and type(stored) == 'table' and tonumber(stored[1])
  if not concurrency and declared then -- Redis has forgotten it: until the next beat tells it again, ours counts
    redis.call('HSET', own .. 'limits', name, cmsgpack.pack({declared, 0, now()}))
  end
  l.concurrency = concurrency or declared or math.huge
  redis.call('ZREMRANGEBYSCORE', l.reserved, '-inf', now())
  l.kept = redis.call('ZCARD', l.reserved)
  l.used = redis.call('SCARD', l.permits) + l.kept
  l.parked = redis.call('ZCARD', l.waiting)
  states[name] = l
  return l
end

local function in_chunks(command, key, values)
  local total = 0
  for first = 1, #values, 1000 do
    total = total + redis.call(command, key, unpack(values, first, math.min(first + 999, #values)))
  end
  return total
end

-- A job that was woken, stopped or lost its worker is next in turn: its permit stays its own for a while.
local function reserve(l, jid)
  if redis.call('ZADD', l.reserved, now() + RESERVED_S, jid) == 1 then
    l.kept, l.used = l.kept + 1, l.used + 1
  end
end

local function is_paused(own, queue)
  if paused[queue] == nil then paused[queue] = redis.call('SISMEMBER', string.sub(own, 1, -4) .. 'paused', queue) == 1 end
  return paused[queue]
end

local apply -- effects.lua defines it: what has expired lets go what it holds

-- Whether a parked job was taken away, or moved on to another limit: {when, jid, queue, key, push, limits, expires, effects}
local function wake(own, l, member, job, woken)
  local payload = redis.call('ZRANGEBYSCORE', own .. 'parked', job[1], job[1], 'LIMIT', 0, 1)[1]
  if not payload then return redis.call('ZREM', l.waiting, member) end -- somebody took it from where it was parked
  if job[7] and job[7] <= now() then
    redis.call('ZREM', l.waiting, member)
    redis.call('ZREM', own .. 'parked', payload)
    return apply(own, job[8])
  end
  if is_paused(own, job[3]) or not pcall(redis.call, 'LLEN', job[4]) then return end
  for _, name in ipairs(job[6]) do
    local other = limit_of(own, name)
    if other.used >= other.concurrency then
      redis.call('ZREM', l.waiting, member)
      redis.call('ZADD', other.waiting, job[1], member)
      other.parked = other.parked + 1
      return
    end
  end
  redis.call('ZREM', l.waiting, member)
  redis.call('ZREM', own .. 'parked', payload)
  for _, name in ipairs(job[6]) do reserve(limit_of(own, name), job[2]) end
  woken[#woken + 1] = {job[5], job[4], payload}
end

-- Every admission, release and resume ends in it: free permits go to those parked longest that may run. Returns how many were woken.
local function fill(own, name)
  local l, woken, passed = limit_of(own, name), {}, 0
  for _ = 1, FILL_PAGES do
    if l.parked == 0 or l.used >= l.concurrency then break end
    local members = redis.call('ZRANGE', l.waiting, passed, passed + FILL_PAGE - 1)
    for _, member in ipairs(members) do
      if l.used >= l.concurrency then break end
      local known, job = pcall(cmsgpack.unpack, member)
      if not known or type(job) ~= 'table' or type(job[6]) ~= 'table' or type(job[8]) ~= 'table' then
        redis.call('ZREM', l.waiting, member)
      else
        wake(own, l, member, job, woken)
      end
      if redis.call('ZSCORE', l.waiting, member) then passed = passed + 1 else l.parked = l.parked - 1 end
    end
    if #members < FILL_PAGE then break end
  end
  for i = #woken, 1, -1 do redis.call(woken[i][1], woken[i][2], woken[i][3]) end -- the one parked longest is fetched first
  return #woken
end

-- Those parked longest whose time is over are forgotten though no permit comes to them. Looks at so many at a time: it runs with every beat.
local function drop_expired(own, name, most)
  local l = limit_of(own, name)
  for _, member in ipairs(redis.call('ZRANGE', l.waiting, 0, most - 1)) do
    local known, job = pcall(cmsgpack.unpack, member)
    if known and type(job) == 'table' and type(job[7]) == 'number' and type(job[8]) == 'table' and job[7] <= now() then
      local payload = redis.call('ZRANGEBYSCORE', own .. 'parked', job[1], job[1], 'LIMIT', 0, 1)[1]
      l.parked = l.parked - redis.call('ZREM', l.waiting, member)
      if payload and redis.call('ZREM', own .. 'parked', payload) == 1 then apply(own, job[8]) end
    end
  end
end

-- Attempts that leave their worker: {{member, {limit, …}, jid that its permits are kept for or ''}, …}
local function let_go(own, holds, attempts)
  local members, by_limit, kept = {}, {}, {}
  for _, a in ipairs(attempts) do
    members[#members + 1] = a[1]
    for _, name in ipairs(a[2]) do
      if a[3] == '' then
        by_limit[name] = by_limit[name] or {}
        table.insert(by_limit[name], a[1])
      else
        kept[#kept + 1] = {name, a[1], a[3]}
      end
    end
  end
  for name, list in pairs(by_limit) do
    local l = limit_of(own, name)
    l.used = l.used - in_chunks('SREM', l.permits, list)
  end
  for _, k in ipairs(kept) do
    local l = limit_of(own, k[1])
    if redis.call('SREM', l.permits, k[2]) == 1 then
      l.used = l.used - 1
      reserve(l, k[3])
    end
  end
  in_chunks('HDEL', holds, members)
  for name in pairs(by_limit) do fill(own, name) end
end

-- What the record of a list says, if it can be read: {{member, {limit, …}, jid}, …}
local function record_of(holds)
  local attempts, record = {}, redis.call('HGETALL', holds)
  for i = 1, #record, 2 do
    local known, what = pcall(cmsgpack.unpack, record[i + 1])
    local right = known and type(what) == 'table' and type(what[1]) == 'string' and type(what[2]) == 'table'
    attempts[#attempts + 1] = {record[i], right and what[2] or {}, right and what[1] or ''}
  end
  return attempts
end

-- The same by job: jid → {{member, {limit, …}}, …}
local function held_by_job(holds)
  local held = {}
  local ok, attempts = pcall(record_of, holds)
  for _, a in ipairs(ok and attempts or {}) do
    held[a[3]] = held[a[3]] or {}
    table.insert(held[a[3]], a)
  end
  return held
end

-- All that the attempts of a list hold, but for the members in `running`. `keep`: for their jobs, which are next in turn. Never an error:
-- what is wrong with what they hold must not keep jobs in a list.
local function let_list_go(own, holds, keep, running)
  if redis.call('EXISTS', holds) == 0 then return end
  local ok, attempts = pcall(record_of, holds)
  if not ok then return end
  local over = {}
  for _, a in ipairs(attempts) do
    if not (running and running[a[1]]) then over[#over + 1] = {a[1], a[2], keep and a[3] or ''} end
  end
  if #over > 0 then pcall(let_go, own, holds, over) end
  if not running then redis.call('DEL', holds) end
end
