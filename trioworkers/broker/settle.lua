-- Write a group of outcomes. First their payloads are taken out of the in-progress lists. That is the fence: who doesn't find the
-- payload doesn't own the job.
-- KEYS    1 our lease  2 whose, which and with what result our last group was  3 schedule  4 retry  5 dead  6 crash counts  7 quarantine
--         8 … 11 counters: processed in all, processed on that day (or so), failed in all, failed on that day
-- ARGV    1 this group's number, one more than the last  2 our lease's value  3 msgpack {lists, cleared, effects or nothing}  4 1 if failures count as processed
--         5 … the payloads, those of a list together, oldest first. Not packed: Lua looks at every byte of each string that it makes
--         lists    {{in-progress list, how many of the payloads, {{which of these, kind, …}, …}}, …}: those named are not just to be
--                  forgotten, but
--           'sends' push later     'retry' payload' delay    'dead' payload' counted in a list 0|1    'discard'    'expire'
--           'requeue' queue payload' LPUSH or RPUSH    'snooze' payload' delay
--           'amend' payload'    a checkpoint: still in progress; at the end that goes back to its queue as the next to be fetched
--         cleared  jids that are suspected no longer
--         effects  {what our keys begin with, {{which of the payloads, 1 if it is done even for what is not ours any more, effect}, …}}: see effects.lua,
--                  which this script is only given where there are any
-- result  msgpack {{number, 'gone' or an error}, …}, by their index among the payloads: what was not ours any more, or could not be written and is still ours;
--         error SUPERSEDED, or LATE for a copy of a group that was carried out after a newer one, and so finds nothing to do
local holder, previous = unpack(redis.call('MGET', KEYS[1], KEYS[2]))
if holder and holder ~= ARGV[2] then return redis.error_reply('SUPERSEDED ' .. holder) end
local number = tonumber(ARGV[1])
local known, last = pcall(cmsgpack.unpack, previous or '')
if known and type(last) == 'table' and type(last[2]) == 'number' then -- else nobody can say what came before
  if last[1] == ARGV[2] then
    if last[2] == number then return last[3] end
    if last[2] > number then return redis.error_reply('LATE') end
  elseif not holder then -- sent in a life that is over
    return redis.error_reply('SUPERSEDED ' .. tostring(last[1]))
  end
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
  expire = function() return 1, 0 end,
  requeue = function(_, queue, payload, push) redis.call(push, queue, payload); return 0, 0 end,
  amend = function(list, payload) redis.call('RPUSH', list, payload); return 0, 0 end,
  snooze = function(_, payload, delay) add(KEYS[3], now() + delay, payload); return 0, 0 end,
}

-- List by list: were the next one of the wrong type, nothing would have been taken that isn't written.
local lists, cleared, effects = unpack(cmsgpack.unpack(ARGV[3]))
local processed, failed, result, before, kept = 0, 0, {}, 4, {}
for _, l in ipairs(lists) do
  local list, count, outcomes = unpack(l)
  local payloads = {}
  for i = 1, count do payloads[i] = ARGV[before + i] end
  local taken = take(list, payloads, 'tw:' .. ARGV[2]) -- a lease's value is no payload
  for i, is_ours in ipairs(taken) do
    if is_ours then
      processed = processed + 1
    else
      result[#result + 1], kept[before - 4 + i] = {before - 4 + i, 'gone'}, 1
    end
  end
  for _, o in ipairs(outcomes) do
    local i, kind = o[1], o[2]
    if taken[i] then
      local ok, p, f = pcall(write[kind], list, unpack(o, 3))
      if not ok then -- a key of the wrong type, say: the payload goes back to where it was, so that nothing is lost
        redis.call('LPUSH', list, payloads[i])
        result[#result + 1], kept[before - 4 + i] = {before - 4 + i, words(p)}, 2
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
if effects then
  local due = {}
  for _, e in ipairs(effects[2]) do -- what could not be written is still ours, with all that it holds
    if not kept[e[1]] or kept[e[1]] == 1 and e[2] == 1 then due[#due + 1] = e[3] end
  end
  apply(effects[1], due)
end
local packed = cmsgpack.pack(result)
redis.call('SET', KEYS[2], cmsgpack.pack({ARGV[2], number, packed}), 'EX', 86400)
return packed
