-- The upkeep of what is held, which any worker does for all: what our code declares, and what became due by itself.
-- started  when we did by Redis's clock, or '' if that is now
-- work     {{{LIMIT, as our code has it: see limits.lua}, …}, {{lost payload, its queue's key, LPUSH or RPUSH}, …}, {{what was buried unread, effects
--          of that}, …}}
-- only_due 1: just those at whom it is time; cursor: how far the walk over what is parked has come
-- forgotten_after_s  after so long a limit is that no worker declares
-- result  {when we started as text, how many parked jobs were woken, how many effects are still to be repaired, ms until the next look is due or
--          -1, next cursor, {name of a forgotten limit, …}, {parked payload of which nothing is known any more, …}, {what was buried unread, …}, how many lost ones were put back}
local UNREAD_PAGE = 20
local PAGE, PAGE_BYTES, DOUBT_S = 200, 1000000, 60
redis.call('LTRIM', repairs, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local began_at = now()
local since = tonumber(started) or began_at
local declared, lost, ended = unpack(cmsgpack.unpack(work))
local woken, forgotten, found, were_lost = 0, {}, {}, 0

-- Of two versions of a limit that of the worker counts which started last.
for _, d in ipairs(declared) do
  local stored = unpacked(redis.call('HGET', limits, d[1]))
  local right = stored and tonumber(stored[1]) and tonumber(stored[2]) and tonumber(stored[2]) <= began_at
  if right and tonumber(stored[2]) > since then
    redis.call('HSET', limits, d[1], cmsgpack.pack({stored[1], stored[2], began_at, stored[4], stored[5]}))
  else
    redis.call('HSET', limits, d[1], cmsgpack.pack({d[2][1], since, began_at, d[2][4], d[2][5]}))
  end
end

-- What is no sorted set there is none of ours, and would stop all upkeep. Which limits somebody waits at is told by those who wait.
if not tonumber(redis.pcall('ZCARD', own .. 'waits')) then redis.call('UNLINK', own .. 'waits') end
local somebody_waits = {} -- by LIMIT
for _, name in ipairs(only_due == '1' and {} or redis.call('ZRANGE', own .. 'waits', 0, -1)) do
  somebody_waits[string.match(name, '^[^:]*')] = true
end

-- One that nobody was heard to declare for long is in doubt first: Redis itself may have been away. When it is known that nobody does, it
-- holds nobody back, and goes with the last that waits.
local function check_seen(name, packed)
  local s = unpacked(packed) or {}
  if began_at - (sensible(s[3], 0, began_at) or 0) <= tonumber(forgotten_after_s) then return end
  local doubted = sensible(s[6], 1, began_at)
  local is_over = s[7] == 1 or doubted and began_at - doubted >= DOUBT_S
  if is_over and not somebody_waits[name] then
    redis.call('HDEL', limits, name)
  else
    redis.call('HSET', limits, name, cmsgpack.pack({s[1] or 0, s[2] or 0, s[3] or 0, s[4] or 0, s[5] or 1, doubted or began_at, is_over and 1 or 0}))
  end
  if is_over and s[7] ~= 1 then forgotten[#forgotten + 1] = name end
end

-- Permits that no record knows belong to nobody: by chance some are looked at with each round, where somebody waits.
local looked_at = 0
local function names_limit(limits_of_it, name)
  for _, each in ipairs(type(limits_of_it) == 'table' and limits_of_it or {}) do
    if each == name then return true end
  end
end

local function check_permits(name)
  for _, member in ipairs(looked_at < 1000 and redis.call('SRANDMEMBER', own .. 'permits:' .. name, 50) or {}) do
    looked_at = looked_at + 1
    local record = string.match(member, '^(.*) [^ ]*$')
    local what = record and unpacked(redis.call('HGET', own .. 'holds:' .. record, member))
    if not (what and names_limit(what[2], name)) then redis.call('SREM', own .. 'permits:' .. name, member) end
  end
end

-- What the one that has waited longest keeps of its other limits.
local function keep_for_first(name)
  local moment = redis.call('ZRANGE', own .. 'waiting:' .. name, 0, 0)[1]
  local job = moment and job_at(own, moment)
  for _, other in ipairs(job and #job[5] > 1 and job[5] or {}) do keep_on(own, limit_of(own, other)) end
end

local function put_back(payload, queue, push)
  local score = redis.call('ZSCORE', own .. 'parked', payload)
  local moment = score and string.format('%.17g', tonumber(score))
  if not score or job_at(own, moment) then return 0 end
  redis.call(push, queue, payload)
  redis.call('ZREM', own .. 'parked', payload)
  forget_waiting(own, moment) -- what was none of ours
  return 1
end

local function unpass(queue)
  if is_paused(own, queue) then return end
  local key = own .. 'passed:' .. queue
  local moments = redis.call('ZRANGE', key, 0, PAGE - 1)
  for _, moment in ipairs(moments) do
    local job = job_at(own, moment)
    if job and job[5][1] then wait_at(limit_of(own, job[5][1]), moment) end
    redis.call('ZREM', key, moment)
  end
  if #moments < PAGE then redis.call('SREM', own .. 'passed', queue) end
end

local function waits_somewhere(moment, job)
  for _, name in ipairs(job[5]) do
    if redis.call('ZSCORE', own .. 'waiting:' .. name, moment) then
      if not redis.call('ZSCORE', own .. 'waits', name) then redis.call('ZADD', own .. 'waits', began_at, name) end
      return true
    end
  end
  return redis.call('ZSCORE', own .. 'passed:' .. job[2], moment)
end

-- One that stands nowhere any more, since some key of ours is lost, is set to rights.
local function look_at(payload, score)
  local moment = string.format('%.17g', tonumber(score))
  local job = job_at(own, moment)
  if not job then
    found[#found + 1] = payload
    return
  end
  if job[5][1] and not waits_somewhere(moment, job) then wait_at(limit_of(own, job[5][1]), moment) end
  if job[6] then redis.call('ZADD', own .. 'expiring', 'NX', job[6], moment) end
end

-- A page of what is parked, one first and then more and more, as long as they should fit by what those before weigh.
local function walk(from)
  local seen, size, step = 0, 0, 1
  while seen < PAGE and size < PAGE_BYTES do
    local page = redis.call('ZRANGE', own .. 'parked', from + seen, from + seen + step - 1, 'WITHSCORES')
    for i = 1, #page, 2 do
      look_at(page[i], page[i + 1])
      seen, size = seen + 1, size + #page[i]
    end
    if #page < 2 * step then return 0 end
    step = math.max(1, math.min(step * 4, PAGE - seen, math.floor((PAGE_BYTES - size) * seen / math.max(1, size))))
  end
  return from + seen
end

local next_cursor = tonumber(cursor)
if only_due ~= '1' then
  local all, known = redis.call('HGETALL', limits), {}
  for i = 1, math.min(#all, 2000), 2 do
    known[all[i]] = true
    check_seen(all[i], all[i + 1])
  end
  for name in pairs(somebody_waits) do
    if not known[name] then check_seen(name, false) end
  end
  for _, name in ipairs(redis.call('ZRANGE', own .. 'waits', 0, 499)) do
    pcall(check_permits, name)
    pcall(keep_on, own, limit_of(own, name))
    pcall(keep_for_first, name)
  end
  for _, l in ipairs(lost) do
    local ok, count = pcall(put_back, unpack(l))
    were_lost = were_lost + (ok and count or 0)
  end
  for _, e in ipairs(ended) do
    if redis.pcall('LREM', unread, 1, e[1]) == 1 then apply(own, e[2]) end
  end
  for _, queue in ipairs(redis.call('SMEMBERS', own .. 'passed')) do pcall(unpass, queue) end
  local walked, where = pcall(walk, next_cursor)
  next_cursor = walked and where or 0
end
for _, moment in ipairs(redis.call('ZRANGEBYSCORE', own .. 'expiring', '-inf', now(), 'LIMIT', 0, 500)) do
  pcall(expire, own, moment)
end
local due = {}
for l in pairs(touched) do due[#due + 1] = l.name end
local most = only_due == '1' and string.format('%.17g', now()) or '+inf'
for _, name in ipairs(redis.call('ZRANGEBYSCORE', own .. 'waits', '-inf', most, 'LIMIT', 0, 500)) do due[#due + 1] = name end
for _, name in ipairs(due) do
  local filled, count = pcall(fill, own, name)
  if filled then
    woken = woken + count
    if limit_of(own, name).parked == 0 then redis.call('ZREM', own .. 'waits', name) end
  else -- a key of the wrong type: told by those who are admitted
    redis.call('ZADD', own .. 'waits', now() + LOOK_AGAIN_S, name)
  end
end
for _ = 1, 100 do
  local packed = redis.call('LPOP', repairs)
  if not packed then break end
  local list = unpacked(packed)
  if list then pcall(apply, own, list) end -- what fails again is appended again
end
local first = redis.call('ZRANGE', own .. 'waits', 0, 0, 'WITHSCORES')[2]
local next_in_ms = first and math.max(0, math.ceil((tonumber(first) - now()) * 1000)) or -1
return {string.format('%.6f', since), woken, redis.call('LLEN', repairs), next_in_ms, next_cursor, forgotten, found, only_due == '1' and {} or redis.call('LRANGE', unread, 0, UNREAD_PAGE - 1), were_lost}
