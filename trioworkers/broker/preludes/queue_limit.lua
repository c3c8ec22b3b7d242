-- How many may be taken from a queue with a limit over the fleet (a prelude, not a script of its own; after limits.lua).
-- What runs under it is what lies in the in-progress lists of its queues: a permit is a place there, so that whatever takes a job out of such a list
-- (settle, put back, release, reclaim) frees it, and nothing else can. Who waits is the queue itself. Under `own` lie besides
--   lists:NAME  set: the in-progress lists of workers that fetch under it; one that is empty is left out until its worker fetches again

local LOOK_MS, SOONEST_MS = 1000, 50 -- what others let go is found by looking; what we do ourselves we know

local function queue_limit(own, name, spec, list)
  local l = limit_of(own, name, spec)
  local lists = own .. 'lists:' .. name
  redis.call('SADD', lists, list)
  for _, each in ipairs(redis.call('SMEMBERS', lists)) do
    local count = redis.pcall('LLEN', each)
    if type(count) == 'number' and count > 0 then
      l.used = l.used + count
    elseif each ~= list then
      redis.call('SREM', lists, each)
    end
  end
  return l
end

-- How many may be taken now, of `most`.
local function may_take(l, most)
  local t = now()
  if l.closed > t then return 0 end
  local count = math.min(most, l.concurrency - l.used)
  if l.interval > 0 then
    count = math.min(count, math.floor((t - arrival(l, t)) / l.interval + l.burst + 1e-9))
  end
  return math.max(0, count)
end

-- So many were taken. Returns after how many ms to come again; -1: when something is in the queue.
local function took(own, l, count, queue)
  if count > 0 then
    spend(l, count)
    l.used = l.used + count
  end
  local waits = redis.call('EXISTS', queue) == 1
  local t, at = now(), free_at(l)
  local due = waits and at > l.closed and at < math.huge and at or 0
  if due ~= l.due then
    l.due = due
    dirty[l.name] = true
  end
  if l.interval > 0 then write_gates(own) end
  if not waits then return -1 end
  if at == 0 then return 0 end
  return at - t < LOOK_MS / 1000 and math.max(SOONEST_MS, math.ceil((at - t) * 1000)) or LOOK_MS
end

