-- What there is to know of limits, for people: how many hold a permit and wait, what the code says and what people want instead. Writes nothing.
-- only  '' for all, or the name of one: then who holds and who waits, too
-- most  at most so many limits; and holders, and who waits
-- result  msgpack {{name, concurrency or 0, seconds between two starts or 0, burst, what the code says of it or false, what people want or false, permits and
--         jobs that are in progress, permits that are kept, how many wait, until when it is closed or 0 or -1: until somebody opens it, when the next
--         start is due or 0}, …}, {{name, member, jid, in-progress list's record}, …}, {{name, moment, jid, queue, 1 if within its slot}, …}
local names, seen, held, at_most = {}, {}, {}, tonumber(most)
local function add(name)
  if not seen[name] and (only == '' or name == only or string.match(name, '^[^:]*') == only) and #names < at_most then
    seen[name] = true
    names[#names + 1] = name
  end
end
-- Five numbers, or false for each that is none; false for what is no record. What strangers pack may have no form once it is packed again.
local function numbers_in(text)
  local record, found = unpacked(text), {}
  if type(record) ~= 'table' then return false end
  for i = 1, 5 do found[i] = type(record[i]) == 'number' and record[i] or false end
  return found
end
local holders, waiting = {}, {}
for _, key in ipairs({'limits', 'overrides'}) do
  local all = redis.call('HGETALL', own .. key)
  for i = 1, #all, 2 do add(all[i]) end
end
for _, name in ipairs(redis.call('ZRANGE', own .. 'waits', 0, at_most)) do add(name) end
for _, entry in ipairs(redis.call('HVALS', registry)) do
  local ok, attempts = pcall(record_of, own .. 'holds:' .. entry)
  for _, a in ipairs(ok and attempts or {}) do
    for _, name in ipairs(a[2]) do
      add(name)
      if only ~= '' and seen[name] and #holders < at_most then holders[#holders + 1] = {name, a[1], a[3], entry} end
    end
  end
end
local result = {}
for _, name in ipairs(names) do
  local ok, problem = pcall(function()
    local l = limit_of(own, name)
    for _, list in ipairs(redis.call('SMEMBERS', own .. 'lists:' .. name)) do
      local count = redis.pcall('LLEN', list)
      l.used = l.used + (type(count) == 'number' and count or 0)
    end
    local base = string.match(name, '^@') and name or string.match(name, '^[^:]*')
    local closed = l.closed == math.huge and -1 or l.closed > now() and l.closed or 0
    result[#result + 1] = {
      name, l.concurrency == math.huge and 0 or l.concurrency, l.interval, l.burst,
      numbers_in(redis.call('HGET', own .. 'limits', base)), numbers_in(redis.call('HGET', own .. 'overrides', name)),
      l.used - l.kept, l.kept, l.parked, closed, l.interval > 0 and l.tat > now() and l.tat or 0,
    }
    for _, moment in ipairs(only == '' and {} or redis.call('ZRANGE', l.waiting, 0, at_most - 1)) do
      local job = job_at(own, moment)
      if job and #waiting < at_most then waiting[#waiting + 1] = {name, moment, job[1], job[2], job[9] and 1 or 0} end
    end
  end)
  if not ok then result[#result + 1] = {name, 0, 0, 1, false, false, 0, 0, 0, 0, 0, words(problem)} end
end
return cmsgpack.pack({result, holders, waiting})
