-- What may start of a batch that was fetched: who gets all its permits starts, who doesn't is parked, and leaves the worker for that.
-- admission        its number, one more than the last
-- declared_limits  {{LIMIT, as our code has it: see limits.lua}, …}
-- push             LPUSH or RPUSH, to the end that is fetched
-- candidates       {{member, jid, {limit, …}, when its time is over or false, effects of that, 1 if it goes back to its queue then}, …}
-- result  msgpack {1 start | 0 parked | -1 not ours any more | an error, …}; error SUPERSEDED, UNLEASED if the lease is gone, LATE if
--         this was sent before the last one
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local holder = redis.call('GET', lease)
if not holder then return redis.error_reply('UNLEASED') end
if holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
local number = tonumber(admission)
local last = unpacked(redis.call('GET', last_admission))
if last and last[1] == ours then
  if last[2] == number then return last[3] end
  if last[2] > number then return redis.error_reply('LATE') end
end
-- These fail here, before anything is written, if they are not what they must be.
redis.call('ZCARD', own .. 'parked')
redis.call('HLEN', own .. 'parked_jobs')
redis.call('ZCARD', own .. 'expiring')
redis.call('ZCARD', own .. 'waits')

local declared = {}
for _, d in ipairs(cmsgpack.unpack(declared_limits)) do declared[d[1]] = d[2] end

-- All limits or none: the first that has nothing for it is the one to wait at. Newcomers stand behind those who wait; who is next in turn
-- stands before them, if it must wait because the limit was closed.
local function blocked_by(jid, names)
  for _, name in ipairs(names) do
    local l = limit_of(own, name, declared[string.match(name, '^[^:]*')])
    local first = is_next(l, jid)
    if first and l.closed > now() or not first and (l.parked > 0 or free_at(l) ~= 0) then return l, first end
  end
end
local permits, record, parked, result = {}, {}, {}, {}
local function decide(i, e)
  local member, jid, names = e[1], e[2], e[3]
  local l, first = blocked_by(jid, names)
  if l then
    if first then
      for _, name in ipairs(names) do
        if is_next(limit_of(own, name), jid) then unreserve(limit_of(own, name), jid) end
      end
    end
    l.parked = l.parked + 1
    parked[#parked + 1] = {i, e, l, first}
    return 0
  end
  for _, name in ipairs(names) do
    l = limit_of(own, name)
    if is_next(l, jid) then unreserve(l, jid) else spend(l) end
    l.used = l.used + 1
    permits[name] = permits[name] or {}
    table.insert(permits[name], member)
  end
  record[#record + 1] = member
  record[#record + 1] = cmsgpack.pack({jid, names})
  return 1
end
local entries = cmsgpack.unpack(candidates)
for i, e in ipairs(entries) do
  local ok, decision = pcall(decide, i, e)
  result[i] = ok and decision or words(decision)
end

for name, members in pairs(permits) do in_chunks('SADD', limit_of(own, name).permits, members) end
for first = 1, #record, 1000 do redis.call('HSET', holds, unpack(record, first, math.min(first + 999, #record))) end
for _, p in ipairs(parked) do p[3].parked = p[3].parked - 1 end -- counted anew as each is noted
-- The newest lie at the head of the list; from there on each is the next one.
for k = #parked, 1, -1 do
  if redis.call('LREM', list, 1, ARGV[before_payloads + parked[k][1]]) == 0 then
    result[parked[k][1]] = -1
    table.remove(parked, k)
  end
end
for _, p in ipairs(parked) do
  local payload, e = ARGV[before_payloads + p[1]], p[2]
  local moment = note_waiting(own, p[3], {e[2], queue, queue_key, push, e[3], e[4], e[5], e[6]}, p[4])
  while redis.call('ZADD', own .. 'parked', 'NX', moment, payload) == 0 do payload = payload .. blanks() end
end
for _, l in pairs(states) do -- Redis has forgotten it: until the next beat tells it again, ours counts
  local d = declared[l.is_news or '']
  if d then redis.call('HSET', own .. 'limits', l.is_news, cmsgpack.pack({d[1], 0, now(), d[4], d[5]})) end
end
local asked = {} -- filling one may look at others
for name, l in pairs(states) do
  if l.had_parked then asked[#asked + 1] = name end
end
for _, name in ipairs(asked) do fill(own, name) end
write_gates(own)
local packed = cmsgpack.pack(result)
redis.call('SET', last_admission, cmsgpack.pack({ours, number, packed}), 'EX', 86400)
return packed
