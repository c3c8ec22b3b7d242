-- Write a group of outcomes. LREM comes first: it is the fence (who doesn't find the payload doesn't own the job), and a
-- script that began with it may still write when Redis is full.
-- KEYS    1 our lease  2 number and result of our last group  3 schedule  4 retry  5 dead  6 reclaims  7 on trial
--         8 … 11 counters: processed in all, processed on that day (or so), failed in all, failed on that day
-- ARGV    1 this group's token  2 our lease's value  3 msgpack {acks, others, cleared}  4 1 if failures count as processed
--         acks     {{in-progress list, {payload, …}}, …}    numbered through from 1
--         others   {{kind, in-progress list, payload, …}, …}, numbered on
--           'sends' push later     'retry' payload' delay    'dead' payload' counted in a list 0|1    'discard'
--           'requeue' queue payload' LPUSH or RPUSH    'later' payload' delay
--           'amend' payload'    a checkpoint: still in progress; at the end that goes back to its queue as the next to be fetched
--         cleared  jids that are suspected no longer
-- result  msgpack {{number, 'gone' or an error}, …}: what was not ours any more, or could not be written and is still ours
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return redis.error_reply('SUPERSEDED ' .. holder) end
local last = redis.call('GET', KEYS[2])
if last then
  local token, result = unpack(cmsgpack.unpack(last))
  if token == ARGV[1] then return result end
end

local work = cmsgpack.unpack(ARGV[3])
local number, processed, failed, result = 0, 0, 0, {}

-- LREM takes one payload at a time, from a long list only after a walk: 165 µs among 10,000. So if most of a list goes it is read once
-- and what stays is written anew; if many go from a long one they are overwritten, and one walk removes them. LTRIM comes first: it
-- may always write, and who began so may go on when Redis is full.
local function take(list, payloads)
  local taken, length = {}, redis.call('LLEN', list)
  local most = #payloads >= 20 and #payloads * 2 >= length
  if not most and (#payloads * length < 1000000 or length < 2000) then
    for i, payload in ipairs(payloads) do taken[i] = redis.call('LREM', list, -1, payload) == 1 end
    return taken
  end

  local wanted, places, stays = {}, {}, {}
  for _, payload in ipairs(payloads) do
    wanted[payload] = (wanted[payload] or 0) + 1
    places[payload] = {}
  end
  for first = 0, length - 1, 500 do
    for i, payload in ipairs(redis.call('LRANGE', list, first, first + 499)) do
      if (wanted[payload] or 0) > #(places[payload] or {}) then
        table.insert(places[payload], first + i - 1)
      elseif most then
        stays[#stays + 1] = payload
      end
    end
  end

  redis.call('LTRIM', list, most and 1 or 0, most and 0 or -1)
  for first = 1, #stays, 1000 do redis.call('RPUSH', list, unpack(stays, first, math.min(first + 999, #stays))) end
  for i, payload in ipairs(payloads) do
    local place = table.remove(places[payload])
    taken[i] = place ~= nil
    if place and not most then redis.call('LSET', list, place, ARGV[1]) end
  end
  if not most then redis.call('LREM', list, 0, ARGV[1]) end
  return taken
end

for _, group in ipairs(work[1]) do
  for _, taken in ipairs(take(group[1], group[2])) do
    number = number + 1
    if taken then
      processed = processed + 1
    else
      result[#result + 1] = {number, 'gone'}
    end
  end
end

-- Two jobs of the same bytes would be one in a sorted set. JSON doesn't mind blanks at its end; the time spelled with them keeps
-- any number of such jobs apart at the first try.
local BLANKS = {[0] = ' ', '\t', '\n', '\r'}
local function blanks()
  local rest, text = math.floor(now() * 1000000 + 0.5) % 4294967296, ''
  for _ = 1, 16 do
    text = text .. BLANKS[rest % 4]
    rest = math.floor(rest / 4)
  end
  return text
end
local function add(set, score, payload)
  local apart = payload
  while redis.call('ZADD', set, 'NX', score, apart) == 0 do apart = payload .. blanks() end
end

local write = {
  sends = function(o) send(o[4], o[5]); return 1, 0 end,
  retry = function(o) add(KEYS[4], now() + o[5], o[4]); return 1, 1 end,
  dead = function(o) bury(KEYS[5], o[4], o[6] == 1); return o[5], o[5] end,
  discard = function() return 1, 1 end,
  requeue = function(o) redis.call(o[6], o[4], o[5]); return 0, 0 end,
  amend = function(o) redis.call('RPUSH', o[2], o[4]); return 0, 0 end,
  later = function(o) add(KEYS[3], now() + o[5], o[4]); return 0, 0 end,
}
for _, o in ipairs(work[2]) do
  number = number + 1
  if redis.call('LREM', o[2], -1, o[3]) == 1 then
    local ok, p, f = pcall(write[o[1]], o)
    if ok then
      processed, failed = processed + p, failed + f
    else -- a key of the wrong type, say: the payload goes back to where it was, so that nothing is lost
      redis.call('LPUSH', o[2], o[3])
      result[#result + 1] = {number, type(p) == 'table' and p.err or tostring(p)}
    end
  else
    result[#result + 1] = {number, 'gone'}
  end
end

for first = 1, #work[3], 1000 do -- all suspects of a worker may come through at once, and Lua unpacks less than 8,000
  local last = math.min(first + 999, #work[3])
  redis.call('HDEL', KEYS[6], unpack(work[3], first, last))
  redis.call('SREM', KEYS[7], unpack(work[3], first, last))
end
if ARGV[4] ~= '1' then processed = processed - failed end
for i, n in ipairs({processed, failed}) do
  if n > 0 then
    redis.call('INCRBY', KEYS[6 + 2 * i], n)
    redis.call('INCRBY', KEYS[7 + 2 * i], n)
    redis.call('EXPIRE', KEYS[7 + 2 * i], 157680000)
  end
end
local packed = cmsgpack.pack(result)
redis.call('SET', KEYS[2], cmsgpack.pack({ARGV[1], packed}), 'EX', 86400)
return packed
