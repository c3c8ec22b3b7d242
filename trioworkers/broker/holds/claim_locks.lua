-- Which jobs of a batch that was fetched may start, of classes that are unique: who has the lock that its payload names, or finds it free. Jobs that
-- came without one (Ruby's) take it here, and their payload names it from then on.
-- claim  its number, one more than the last; push: LPUSH or RPUSH, to the end that jobs are sent to; queues: key of the set of queues
-- work   {{jid, KEY, what, payload that names it or false, effects of its replacement, ms that a spell lasts}, …}: what
--          'held'      its payload names the lock
--          'started'   likewise, until it starts: 'release' lets it go then
--          'skip', 'replace', 'latest'   it came without one, and that becomes of it if another one has it
--          'throttle'  it came without one, and starts if no other did in this spell
-- payloads  as they were fetched
-- result  msgpack {1 start | 0 it waits to take the lock over | -1 not ours any more | {'swapped', payload} its successor has taken its place in our list
--         | {'other', jid} who has its lock | {'skipped', jid} | an error, …}; error SUPERSEDED, UNLEASED if the lease is gone, LATE if this was sent before
--         the last one
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local holder = redis.call('GET', lease)
if not holder then return redis.error_reply('UNLEASED') end
if holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
local number = tonumber(claim)
local known, last = pcall(cmsgpack.unpack, redis.call('GET', last_claim) or '')
if known and type(last) == 'table' and last[1] == ours and type(last[2]) == 'number' then
  if last[2] == number then return last[3] end
  if last[2] > number then return redis.error_reply('LATE') end
end

local entries, keys, result = cmsgpack.unpack(work), {}, {}
for i, e in ipairs(entries) do keys[i] = e[2] end
local readable, problem = pcall(function()
  read_locks(own, keys)
  redis.call('ZCARD', own .. 'next')
end)

-- Another payload takes a job's place in our list, if it is there.
local function exchange(old, new)
  local index = redis.call('LPOS', list, old)
  if index then redis.call('LSET', list, index, new) end
  return index
end

local function take_over(e, payload, lock)
  local successor = next_payload(own, lock)
  if not successor then return nil end
  local n, t = lock[4], now()
  if n[3] == queue then
    if not exchange(payload, successor) then return -1 end
  else -- it belongs on another queue
    look('LLEN', n[4])
    if redis.call('LREM', list, 1, payload) == 0 then return -1 end
    send({{n[3], n[4], {successor}, n[5], n[6]}}, {})
  end
  redis.call('ZREM', own .. 'next', successor)
  set_lock(e[2], {n[2], t, t, false, false, n[10]})
  apply(own, e[5])
  return n[3] == queue and {'swapped', successor} or 0
end

local function spell(e, payload)
  local key = own .. 'throttle:' .. e[2]
  local there = redis.pcall('GET', key)
  if type(there) == 'string' and there ~= e[1] then return {'skipped', there} end
  if not exchange(payload, e[4]) then return -1 end
  redis.call('SET', key, e[1], 'PX', e[6])
  return 1
end

local function decide(e, payload)
  local lock, what = locks[e[2]], e[3]
  if what == 'throttle' then return spell(e, payload) end
  if what == 'release' then
    unlock_all(own, {{'unlock', e[2], e[1]}})
    return 1
  end
  if lock and lock[1] == e[1] then
    local successor = take_over(e, payload, lock)
    if successor then return successor end
    if e[4] and not exchange(payload, e[4]) then return -1 end
    lock[3], lock[5], changed_locks[e[2]] = now(), false, true
    return 1
  end
  if what == 'started' then return 1 end
  if not lock then
    if e[4] then
      if not exchange(payload, e[4]) then return -1 end
    elseif not redis.call('LPOS', list, payload) then
      return -1
    end
    local t = now()
    set_lock(e[2], {e[1], t, t, false, false, e[5]})
    return 1
  end
  if what == 'held' then return {'other', lock[1]} end
  if what == 'skip' then return {'skipped', lock[1]} end
  if redis.call('LREM', list, 1, payload) == 0 then return -1 end
  keep_next(own, lock, e[4], e[1], {queue, queue_key, push, queues, false, false}, what == 'replace' and 0 or 1, e[5])
  changed_locks[e[2]] = true
  return 0
end

for i, e in ipairs(entries) do
  local ok, decision = readable, problem
  if readable then ok, decision = pcall(decide, e, ARGV[before_payloads + i]) end
  result[i] = ok and decision or words(decision)
end
if readable then write_locks(own) end
local packed = cmsgpack.pack(result)
redis.call('SET', last_claim, cmsgpack.pack({ours, number, packed}), 'EX', 86400)
return packed
