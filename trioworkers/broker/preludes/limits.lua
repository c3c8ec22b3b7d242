-- Shared by the scripts that give permits or let them go (a prelude, not a script of its own; after send.lua).
-- `own` is what all keys of ours begin with: `tw:`, behind the namespace. A limit by argument is one of many, each with a name of its own,
-- `LIMIT:KEY`; that of a queue is `@LIMIT` (see queue_limit.lua). Under `own` lie
--   limits         hash: LIMIT → msgpack {concurrency or 0, since, seen, seconds between two starts or 0, burst, since when it is in doubt
--                  whether anybody declares it or 0, 1 if it is known that nobody does}, as the code has it
--   overrides      hash: LIMIT or LIMIT:KEY → msgpack {concurrency or false, seconds or false, burst or false, closed 1|0}, what people want instead
--   permits:NAME   set: the attempts that run under it, each by the member that its worker keeps in `holds:PROCESS QUEUE`
--   reserved:NAME  sorted set: jid → when the permit that is kept for that job is anybody's again
--   gate:NAME      msgpack {when the next start would be due if they were evenly spaced (GCRA's "theoretical arrival time"), until when it is
--                  closed, since when who waits could have started but for nobody having looked or 0}; goes by expiry when it says nothing any more
--   patient:NAME   msgpack {moment, jid, until when it keeps one of the limit's permits though it waits for another limit's}; goes by expiry, and until then nobody
--                  else does so
--   waiting:NAME   sorted set: by when they came who waits there: moment, as text, which is also the key of
--   parked_jobs    hash: moment → msgpack {jid, queue, its key, how to push to the end that is fetched, {name, …}, when its time is over or
--                  false, effects of that, 1 if it goes back to its queue then; or holds and member of an attempt that waits within its slot}
--   parked         sorted set: the payloads of all limits by the same moments
--   expiring       sorted set: moment → when that job's time is over
--   waits          sorted set: NAME at which somebody waits → when it is to be looked at, if nobody lets a permit go before
--   passed, passed:QUEUE  set of paused queues; sorted set: who would be next but for the pause
--   holds:PROCESS QUEUE   hash beside an in-progress list: member → msgpack {jid, {name, …}, 1 if within a slot}
-- Who has a permit in none of these has none: nothing here rests on a timer but the reservations.

local RESERVED_S, LOOK_AGAIN_S, CATCH_UP_S, LONGEST_CLOSED_S = 30, 10, 1, 100000
local PATIENT_AFTER_S, LONGEST_KEPT_S = 60, 3600
local FILL_PAGE, FILL_PAGES, FILL_BYTES = 50, 4, 2000000 -- no more in one step: upkeep goes on with what is left

local function unpacked(text)
  local known, value = pcall(cmsgpack.unpack, text or '')
  return known and type(value) == 'table' and value or nil
end

-- What is no sensible number counts as not said: whoever wrote it, a limit must neither hold for ever nor break a script.
local function sensible(value, least, most)
  local number = tonumber(value)
  return number and number >= least and number <= most and number or nil
end

-- What the code says of a limit, if it says anything.
local function says_something(stored)
  return stored and (sensible(stored[1], 1, 1e9) or sensible(stored[4], 1e-6, 1e8) or stored[7] == 1) and stored
end

local states, paused, dirty, touched = {}, {}, {}, {}

-- Read once in a script, for a limit by argument is hundreds of names.
local in_code, has_overrides = {}, nil
local function code_of(own, base)
  if in_code[base] == nil then
    in_code[base] = says_something(unpacked(redis.call('HGET', own .. 'limits', base))) or false
  end
  return in_code[base]
end

local function overrides_of(own, base, name)
  if has_overrides == nil then has_overrides = redis.call('EXISTS', own .. 'overrides') == 1 end
  return has_overrides and redis.call('HMGET', own .. 'overrides', base, name) or {}
end

-- Reads only. `declared`: what the code says, as in `limits`, for the moment in which Redis has forgotten it.
local function limit_of(own, name, declared)
  local l = states[name]
  if l then return l end
  l = {name = name, permits = own .. 'permits:' .. name, reserved = own .. 'reserved:' .. name, waiting = own .. 'waiting:' .. name}
  local base = string.match(name, '^@') and name or string.match(name, '^[^:]*')
  local stored = code_of(own, base)
  local said = stored or declared
  l.is_news = not stored and declared and base
  local wanted, closed = {}, not said -- somebody deleted it: until the next beat declares it again, nobody knows
  said = said and said[7] ~= 1 and said or {}
  for _, text in ipairs(overrides_of(own, base, name)) do
    local o = unpacked(text)
    if o then
      wanted = {o[1] or wanted[1], o[2] or wanted[2], o[3] or wanted[3]}
      closed = closed or o[4] == 1
    end
  end
  l.concurrency = sensible(wanted[1], 1, 1e9) or sensible(said[1], 1, 1e9) or math.huge
  l.interval = sensible(wanted[2], 1e-6, 1e8) or sensible(said[4], 1e-6, 1e8) or 0
  l.burst = sensible(wanted[3], 1, 1e9) or sensible(said[5], 1, 1e9) or 1
  local t = now()
  local gate = unpacked(redis.call('GET', own .. 'gate:' .. name)) or {}
  l.tat = math.min(sensible(gate[1], 0, 1e12) or 0, t + l.burst * l.interval)
  l.closed = closed and math.huge or sensible(gate[2], 0, t + LONGEST_CLOSED_S) or 0
  l.due = sensible(gate[3], 1, t) or 0
  l.kept, l.used, l.parked = 0, 0, 0
  if not string.match(name, '^@') then -- a queue's knows no permits: what lies in its lists counts, and who waits is the queue
    -- One that would last for longer than any is forged, or Redis's clock was set back: it counts nothing.
    l.kept = redis.call('ZCOUNT', l.reserved, '(' .. string.format('%.17g', t), string.format('%.17g', t + RESERVED_S + 1))
    l.used = redis.call('SCARD', l.permits) + l.kept
    l.parked = redis.call('ZCARD', l.waiting)
  end
  l.had_parked = l.parked > 0
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

-- ── whether one more may start ───────────────────────────────────────────────────────────────────────────────────────────

-- Where starts are evenly spaced, a look that comes late finds more than one due: they are made up for, up to a second's.
local function arrival(l, t)
  local late = l.due > 0 and math.min(t - l.due, CATCH_UP_S) or 0
  return math.max(l.tat, t - late)
end

-- 0: now; a moment; math.huge: when somebody lets a permit go.
local function free_at(l)
  local t = now()
  if l.closed > t then return l.closed end
  if l.used >= l.concurrency then return math.huge end
  if l.interval == 0 then return 0 end
  local at = arrival(l, t) - (l.burst - 1) * l.interval
  return at > t and at or 0
end

local function spend(l, count)
  if l.interval == 0 then return end
  l.tat = arrival(l, now()) + l.interval * (count or 1)
  dirty[l.name], touched[l] = true, true
end

-- Write what the gates say by now.
local function write_gates(own)
  for name in pairs(dirty) do
    local l = states[name]
    local t = now()
    local closed = l.closed == math.huge and 0 or l.closed
    local lasts = math.max(l.tat, closed, l.due) - t
    redis.call('SET', own .. 'gate:' .. name, cmsgpack.pack({l.tat, closed, l.due}), 'PX', math.floor(math.max(0, lasts) * 1000) + 60000)
  end
  dirty = {}
end

local function close(own, name, seconds)
  local l = limit_of(own, name)
  l.closed = math.max(l.closed, now() + math.min(seconds, LONGEST_CLOSED_S - 1))
  dirty[name] = true
end

-- ── permits that are kept ────────────────────────────────────────────────────────────────────────────────────────────────

-- A job that was woken, stopped or lost its worker is next in turn: its permit stays its own for a while.
local function reserve(l, jid, lasts)
  if not l.is_swept then
    redis.call('ZREMRANGEBYSCORE', l.reserved, '-inf', now())
    redis.call('ZREMRANGEBYSCORE', l.reserved, now() + RESERVED_S + 1, '+inf')
    l.is_swept = true
  end
  if redis.call('ZADD', l.reserved, now() + math.min(RESERVED_S, lasts or RESERVED_S), jid) == 1 then
    l.kept, l.used = l.kept + 1, l.used + 1
  end
end

local function is_next(l, jid)
  if l.kept == 0 then return false end
  local score = tonumber(redis.call('ZSCORE', l.reserved, jid) or nil)
  return score and score > now() and score <= now() + RESERVED_S + 1
end

local function unreserve(l, jid)
  redis.call('ZREM', l.reserved, jid)
  l.kept, l.used = l.kept - 1, l.used - 1
end

-- ── who waits ────────────────────────────────────────────────────────────────────────────────────────────────────────────

local function is_paused(own, queue)
  if paused[queue] == nil then paused[queue] = redis.call('SISMEMBER', string.sub(own, 1, -4) .. 'paused', queue) == 1 end
  return paused[queue]
end

local function wait_at(l, moment)
  if redis.call('ZADD', l.waiting, moment, moment) == 1 then l.parked = l.parked + 1 end
  l.had_parked, touched[l] = true, true
end

local function wait_no_more(l, moment)
  l.parked = l.parked - redis.call('ZREM', l.waiting, moment)
  touched[l] = true
end

-- Note who waits, by a moment that nobody else has. `first`: before all others there.
local function note_waiting(own, l, job, first)
  local t = now()
  if first then
    local ahead = redis.call('ZRANGE', l.waiting, 0, 0)[1]
    t = ahead and math.min(t, (tonumber(ahead) or t) - 0.000001) or t
  end
  local moment = string.format('%.17g', t)
  local packed = cmsgpack.pack(job)
  while redis.call('HSETNX', own .. 'parked_jobs', moment, packed) == 0 do
    t = first and t - 0.000001 or now()
    moment = string.format('%.17g', t)
  end
  wait_at(l, moment)
  if job[6] then redis.call('ZADD', own .. 'expiring', job[6], moment) end
  return moment
end

local function forget_waiting(own, moment, job)
  redis.call('HDEL', own .. 'parked_jobs', moment)
  if job and job[6] then redis.call('ZREM', own .. 'expiring', moment) end
end

-- What is known of one who waits; nothing if that is not what we have written.
local function job_at(own, moment, packed)
  local job = unpacked(packed or redis.call('HGET', own .. 'parked_jobs', moment))
  if not job or type(job[5]) ~= 'table' or type(job[7]) ~= 'table' then return nil end
  for i = 1, 3 do
    if type(job[i]) ~= 'string' then return nil end
  end
  for _, name in ipairs(job[5]) do
    if type(name) ~= 'string' then return nil end
  end
  if job[6] and type(job[6]) ~= 'number' then return nil end
  if job[9] then return type(job[8]) == 'string' and type(job[9]) == 'string' and job or nil end
  return (job[4] == 'LPUSH' or job[4] == 'RPUSH') and job or nil
end

local function payload_at(own, moment)
  return redis.call('ZRANGEBYSCORE', own .. 'parked', moment, moment, 'LIMIT', 0, 1)[1]
end

local apply -- effects.lua defines it: what has expired lets go what it holds
local touch_named -- unique.lua defines it: what moves notes that with its lock

-- Those whose time is over are forgotten though no permit comes to them; or, if they have to end by then, go to their queue, for a worker to say so.
local function expire(own, moment)
  local job, payload = job_at(own, moment), payload_at(own, moment)
  local goes_back = job and not job[9] and job[8] == 1
  if goes_back and not pcall(redis.call, 'LLEN', job[3]) then -- what lies there is no queue: as long as that is so, it stays
    return redis.call('ZADD', own .. 'expiring', now() + LOOK_AGAIN_S, moment)
  end
  forget_waiting(own, moment, job)
  redis.call('ZREM', own .. 'expiring', moment)
  for _, name in ipairs(job and job[5] or {}) do wait_no_more(limit_of(own, name), moment) end
  if not job or not payload or redis.call('ZREM', own .. 'parked', payload) == 0 then return end
  if goes_back then
    redis.call(job[4], job[3], payload)
    return touch_named(own, {payload})
  end
  pcall(apply, own, job[7])
end

-- The first of its limits that has nothing for it just now. One that is among the waiting of another is looked at again there.
local function held_up_by(own, l, job)
  for _, name in ipairs(job[5]) do
    local other = limit_of(own, name)
    if other ~= l and (other.closed > now() or not is_next(other, job[1]) and free_at(other) ~= 0) then return other end
  end
end

-- The permits of several limits may be free in turn, and never at once. Who has waited for long keeps the one that it finds while it waits for the others,
-- for a tenth of that time; then nobody does so there for nine times as long. So it starts when that has become longer than the others take to let a permit go, and
-- one permit of a limit is idle for a tenth of the time at most.
local function kept_early(own, l)
  local kept = unpacked(redis.pcall('GET', own .. 'patient:' .. l.name))
  local sound = kept and type(kept[1]) == 'string' and type(kept[2]) == 'string' and sensible(kept[3], 0, now() + LONGEST_KEPT_S)
  return sound and kept or nil
end

local function keep_early(own, l, moment, job)
  local waited = now() - (tonumber(moment) or now())
  if waited < PATIENT_AFTER_S or is_next(l, job[1]) then return end
  local lasts = math.min(waited / 10, LONGEST_KEPT_S)
  local packed = cmsgpack.pack({moment, job[1], now() + lasts})
  if not redis.call('SET', own .. 'patient:' .. l.name, packed, 'NX', 'PX', math.floor(lasts * 10000)) then return end
  spend(l)
  reserve(l, job[1], lasts)
  l.look_by = now() + lasts
end

-- As long as it waits. Not for one of a paused queue, or that somebody took away.
local function keep_on(own, l)
  local kept = l.kept > 0 and kept_early(own, l)
  if not kept or kept[3] <= now() or not is_next(l, kept[2]) then return end
  local job = job_at(own, kept[1])
  if job and job[1] == kept[2] and not is_paused(own, job[2]) then
    reserve(l, kept[2], kept[3] - now())
  else
    unreserve(l, kept[2])
    touched[l] = true
  end
end

-- Give one that waits what it needs: it goes to its queue, which is told to `woken`, or on within its slot.
local function grant(own, moment, job, payload, woken)
  forget_waiting(own, moment, job)
  if payload then
    redis.call('ZREM', own .. 'parked', payload)
    woken[#woken + 1] = {job[4], job[3], payload}
    woken.bytes = (woken.bytes or 0) + #payload
  else
    redis.call('HSET', job[8], job[9], cmsgpack.pack({job[1], job[5], 1}))
  end
  for _, name in ipairs(job[5]) do
    local l = limit_of(own, name)
    if #job[5] > 1 and is_next(l, job[1]) then
      redis.call('SET', own .. 'patient:' .. name, cmsgpack.pack({'', '', 0}), 'XX', 'KEEPTTL') -- it has waited enough
    else
      spend(l)
    end
    if payload then
      reserve(l, job[1])
    else
      l.used = l.used + redis.call('SADD', l.permits, job[9])
    end
  end
end

-- One that waits at `l`, which has something to give.
local function serve(own, l, moment, packed, woken)
  local job = job_at(own, moment, packed)
  local payload = job and not job[9] and payload_at(own, moment)
  if not job or not payload and not (job[9] and redis.call('HEXISTS', job[8], job[9]) == 1) then
    wait_no_more(l, moment) -- somebody took it from where it waited
    return forget_waiting(own, moment, job)
  end
  if job[6] and job[6] <= now() then return expire(own, moment) end
  if payload and (is_paused(own, job[2]) or not pcall(redis.call, 'LLEN', job[3])) then
    redis.call('ZADD', own .. 'passed:' .. job[2], moment, moment)
    redis.call('SADD', own .. 'passed', job[2])
    return wait_no_more(l, moment)
  end
  wait_no_more(l, moment)
  local other = held_up_by(own, l, job)
  if other then
    if other.closed <= now() then keep_early(own, l, moment, job) end
    return wait_at(other, moment)
  end
  grant(own, moment, job, payload, woken)
end

-- When upkeep is to look at a limit, if anybody waits there.
local function note_look(own, l)
  if l.parked > 0 then
    local at, t = free_at(l), now()
    local due = at ~= 0 and at < math.huge and at > l.closed and at or 0
    if due ~= l.due then
      l.due = due
      dirty[l.name] = true
    end
    redis.call('ZADD', own .. 'waits', at == 0 and t or math.min(at, t + LOOK_AGAIN_S, l.look_by or math.huge), l.name)
  elseif l.had_parked then
    redis.call('ZREM', own .. 'waits', l.name)
    l.had_parked = false
  end
end

-- Every admission, release and resume ends in it: what is free goes to those who have waited longest and may run. Returns how many were woken.
local function fill(own, name)
  local l, woken = limit_of(own, name), {}
  for _ = 1, FILL_PAGES do
    if l.parked <= 0 or free_at(l) ~= 0 or (woken.bytes or 0) > FILL_BYTES then break end
    local moments = redis.call('ZRANGE', l.waiting, 0, FILL_PAGE - 1)
    if #moments == 0 then break end
    local packed = redis.call('HMGET', own .. 'parked_jobs', unpack(moments))
    for i, moment in ipairs(moments) do
      if free_at(l) ~= 0 or (woken.bytes or 0) > FILL_BYTES then break end
      serve(own, l, moment, packed[i], woken)
    end
  end
  local payloads = {}
  for i = #woken, 1, -1 do -- the one parked longest is fetched first
    redis.call(woken[i][1], woken[i][2], woken[i][3])
    payloads[#payloads + 1] = woken[i][3]
  end
  touch_named(own, payloads)
  touched[l] = true
  for other in pairs(touched) do note_look(own, other) end
  touched = {}
  write_gates(own)
  return #woken
end

-- ── departures ───────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Attempts that leave their worker: {{member, {name, …}, jid that its permits are kept for or ''}, …}
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
    local gone, l = in_chunks('SREM', own .. 'permits:' .. name, list), states[name]
    if l then
      l.used = l.used - gone
    elseif redis.call('EXISTS', own .. 'waiting:' .. name) == 0 then
      by_limit[name] = nil -- nobody waits there
    end
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

-- What the record of a list says, if it can be read: {{member, {name, …}, jid, whether it is only part of an attempt}, …}
local function record_of(holds)
  local attempts, record = {}, redis.call('HGETALL', holds)
  for i = 1, #record, 2 do
    local what = unpacked(record[i + 1])
    local right = what and type(what[1]) == 'string' and type(what[2]) == 'table'
    attempts[#attempts + 1] = {record[i], right and what[2] or {}, right and what[1] or '', right and what[3] == 1}
  end
  return attempts
end

-- The same by job: jid → {{member, {name, …}}, …}; and what its attempts hold within their slots, which is kept for nobody.
local function held_by_job(holds)
  local held, within = {}, {}
  local ok, attempts = pcall(record_of, holds)
  for _, a in ipairs(ok and attempts or {}) do
    local by_job = a[4] and within or held
    by_job[a[3]] = by_job[a[3]] or {}
    table.insert(by_job[a[3]], a)
  end
  return held, within
end

-- Those that run have what they hold, also if somebody deleted the record or the set. `running`: member → {member, jid, {name, …}, 1 if within a slot}
local function hold_on(own, holds, running)
  local by_limit = {}
  for member, r in pairs(running) do
    if #r[3] > 0 then redis.call('HSET', holds, member, cmsgpack.pack({r[2], r[3], r[4]})) end
    for _, name in ipairs(r[3]) do
      by_limit[name] = by_limit[name] or {}
      table.insert(by_limit[name], member)
    end
  end
  for name, members in pairs(by_limit) do in_chunks('SADD', own .. 'permits:' .. name, members) end
end

-- All that the attempts of a list hold, but for the members in `running`. `keep`: for their jobs, which are next in turn. Never an error:
-- what is wrong with what they hold must not keep jobs in a list.
local function let_list_go(own, holds, keep, running)
  if redis.call('EXISTS', holds) == 0 then return end
  local ok, attempts = pcall(record_of, holds)
  if not ok then return end
  local over = {}
  for _, a in ipairs(attempts) do
    if not (running and running[a[1]]) then over[#over + 1] = {a[1], a[2], keep and not a[4] and a[3] or ''} end
  end
  if #over > 0 then pcall(let_go, own, holds, over) end
  if not running then redis.call('DEL', holds) end
end
