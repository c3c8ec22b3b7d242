-- Write a group of outcomes. First their payloads are taken out of the in-progress lists. That is the fence: who doesn't find the
-- payload doesn't own the job.
-- KEYS    1 our lease  2 number and result of our last group  3 schedule  4 retry  5 dead  6 reclaims  7 on trial
--         8 … 11 counters: processed in all, processed on that day (or so), failed in all, failed on that day
-- ARGV    1 this group's token  2 our lease's value  3 msgpack {lists, cleared}  4 1 if failures count as processed
--         5 … the payloads, those of a list together, oldest first. Not packed: Lua looks at every byte of each string that it makes
--         lists    {{in-progress list, how many of the payloads, {{which of these, kind, …}, …}}, …}: those named are not just to be
--                  forgotten, but
--           'sends' push later     'retry' payload' delay    'dead' payload' counted in a list 0|1    'discard'
--           'requeue' queue payload' LPUSH or RPUSH    'later' payload' delay
--           'amend' payload'    a checkpoint: still in progress; at the end that goes back to its queue as the next to be fetched
--         cleared  jids that are suspected no longer
-- result  msgpack {{number, 'gone' or an error}, …}, by their place among the payloads: what was not ours any more, or could not be written and is still ours
local holder, previous = unpack(redis.call('MGET', KEYS[1], KEYS[2]))
if holder and holder ~= ARGV[2] then return redis.error_reply('SUPERSEDED ' .. holder) end
if previous then
  local token, result = unpack(cmsgpack.unpack(previous))
  if token == ARGV[1] then return result end
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
  sends = function(_, push, later) send(push, later); return 1, 0 end,
  retry = function(_, payload, delay) add(KEYS[4], now() + delay, payload); return 1, 1 end,
  dead = function(_, payload, counted, in_list) bury(KEYS[5], payload, in_list == 1); return counted, counted end,
  discard = function() return 1, 1 end,
  requeue = function(_, queue, payload, push) redis.call(push, queue, payload); return 0, 0 end,
  amend = function(list, payload) redis.call('RPUSH', list, payload); return 0, 0 end,
  later = function(_, payload, delay) add(KEYS[3], now() + delay, payload); return 0, 0 end,
}

-- List by list: were the next one of the wrong type, nothing would have been taken that isn't written.
local lists, cleared = unpack(cmsgpack.unpack(ARGV[3]))
local processed, failed, result, before = 0, 0, {}, 4
for _, l in ipairs(lists) do
  local list, count, outcomes = unpack(l)
  local payloads = {}
  for i = 1, count do payloads[i] = ARGV[before + i] end
  local taken = take(list, payloads, ARGV[1])
  for i, is_ours in ipairs(taken) do
    if is_ours then processed = processed + 1 else result[#result + 1] = {before - 4 + i, 'gone'} end
  end
  for _, o in ipairs(outcomes) do
    local i, kind = o[1], o[2]
    if taken[i] then
      local ok, p, f = pcall(write[kind], list, unpack(o, 3))
      if not ok then -- a key of the wrong type, say: the payload goes back to where it was, so that nothing is lost
        redis.call('LPUSH', list, payloads[i])
        result[#result + 1] = {before - 4 + i, words(p)}
        p, f = 0, 0
      end
      processed, failed = processed - 1 + p, failed + f
    end
  end
  before = before + count
end

-- From here on nothing may fail (a key of the wrong type, say): what is written is written, and would seem not to be.
for first = 1, #cleared, 1000 do -- all suspects of a worker may come through at once, and Lua unpacks less than 8,000
  local last = math.min(first + 999, #cleared)
  redis.pcall('HDEL', KEYS[6], unpack(cleared, first, last))
  redis.pcall('SREM', KEYS[7], unpack(cleared, first, last))
end
if ARGV[4] ~= '1' then processed = processed - failed end
for i, n in ipairs({processed, failed}) do
  if n > 0 then
    redis.pcall('INCRBY', KEYS[6 + 2 * i], n)
    if redis.pcall('INCRBY', KEYS[7 + 2 * i], n) == n then redis.call('EXPIRE', KEYS[7 + 2 * i], 157680000) end
  end
end
local packed = cmsgpack.pack(result)
redis.call('SET', KEYS[2], cmsgpack.pack({ARGV[1], packed}), 'EX', 86400)
return packed
