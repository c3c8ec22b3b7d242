-- What may start of a batch that was fetched: who gets all its permits starts, who doesn't is parked, and leaves the worker for that.
-- admission        its number, one more than the last
-- declared_limits  {{limit's name, concurrency as our code has it}, …}
-- push             LPUSH or RPUSH, to the end that is fetched
-- candidates       {{member, jid, {limit, …}, expires or false, effects of expiry}, …}
-- result  msgpack {1 start | 0 parked | -1 not ours any more | an error, …}; error SUPERSEDED, UNLEASED if the lease is gone, LATE if
--         this was sent before the last one
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
local holder = redis.call('GET', lease)
if not holder then return redis.error_reply('UNLEASED') end
if holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
local number = tonumber(admission)
local known, last = pcall(cmsgpack.unpack, redis.call('GET', last_admission) or '')
if known and type(last) == 'table' and last[1] == ours then
  if last[2] == number then return last[3] end
  if last[2] > number then return redis.error_reply('LATE') end
end
redis.call('ZCARD', own .. 'parked') -- fails here, before anything is written, if that is no sorted set

local declared = {}
for _, d in ipairs(cmsgpack.unpack(declared_limits)) do declared[d[1]] = d[2] end

-- All limits or none: the first that has no permit is the one to wait at. Newcomers stand behind those who wait.
local function blocked_by(jid, names)
  for _, name in ipairs(names) do
    local l = limit_of(own, name, declared[name])
    local is_next = l.kept > 0 and redis.call('ZSCORE', l.reserved, jid)
    if not is_next and (l.parked > 0 or l.used >= l.concurrency) then return l end
  end
end
local permits, record, parked, result = {}, {}, {}, {}
local function decide(i, e)
  local member, jid, names = e[1], e[2], e[3]
  local l = blocked_by(jid, names)
  if l then
    l.parked = l.parked + 1
    parked[#parked + 1] = {i, e, l}
    return 0
  end
  for _, name in ipairs(names) do
    l = limit_of(own, name)
    if l.kept > 0 and redis.call('ZREM', l.reserved, jid) == 1 then l.kept = l.kept - 1 else l.used = l.used + 1 end
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
-- The newest lie at the head of the list; from there on each is the next one.
for k = #parked, 1, -1 do
  if redis.call('LREM', list, 1, ARGV[before_payloads + parked[k][1]]) == 0 then
    result[parked[k][1]] = -1
    parked[k][3].parked = parked[k][3].parked - 1
    table.remove(parked, k)
  end
end
for _, p in ipairs(parked) do
  local payload, e, l = ARGV[before_payloads + p[1]], p[2], p[3]
  local at = string.format('%.17g', now())
  while redis.call('ZCOUNT', own .. 'parked', at, at) > 0 do at = string.format('%.17g', now()) end
  while redis.call('ZADD', own .. 'parked', 'NX', at, payload) == 0 do payload = payload .. blanks() end
  redis.call('ZADD', l.waiting, at, cmsgpack.pack({at, e[2], queue, queue_key, push, e[3], e[4], e[5]}))
end
local touched = {} -- filling one may look at others
for name in pairs(states) do touched[#touched + 1] = name end
for _, name in ipairs(touched) do fill(own, name) end
local packed = cmsgpack.pack(result)
redis.call('SET', last_admission, cmsgpack.pack({ours, number, packed}), 'EX', 86400)
return packed
