-- Write a group of outcomes. First their payloads are taken out of the in-progress lists. That is the fence: who doesn't find the
-- payload doesn't own the job.
-- group     this group's number, one more than the last; last_settle: whose, which and with what result our last one was
-- …_then    counted on that day (or by that worker); counts_failures: 1 if failures count as processed
-- payloads  those of a list together, oldest first. Not packed: Lua looks at every byte of each string that it makes
-- work      {lists, cleared, effects or nothing}
--         lists    {{in-progress list, how many of the payloads, {{which of these, kind, …}, …}, nothing, or of one whose payload isn't there {sha1, its
--                  length}, which has {before, from, to, after} for each payload' that brings along a part of it}, …}: those named are not just to be
--                  forgotten, but
--           'sends' push later, and of unique jobs own {KEY, jid} that is let go or nothing     'retry' payload' delay    'dead' payload' counted in a list 0|1    'discard'    'expire'
--           'requeue' queue payload' LPUSH or RPUSH    'snooze' payload' delay
--           'amend' payload'    a checkpoint: still in progress; at the end that goes back to its queue as the next to be fetched
--         cleared  jids that are suspected no longer
--         effects  {what our keys begin with, {{which of the payloads, 1 if it is done even for what is not ours any more, effect}, …}}: see effects.lua,
--                  which this script is only given where there are any
-- result  msgpack {{number, 'gone' or an error}, …}, by their index among the payloads: what was not ours any more, or could not be written and is still ours; with the index 0 that there is more to be moved than this script had time for;
--         error SUPERSEDED, or LATE for a copy of a group that was carried out after a newer one, and so finds nothing to do
local number = tonumber(group)
local refused = fence(lease, last_settle, ours, number)
if refused then return refused end

local function add(set, score, payload)
  local apart = payload
  while redis.call('ZADD', set, 'NX', score, apart) == 0 do apart = payload .. blanks() end
end

local write = {
  sends = function(_, push, later, own, ops, given_up)
    if ops then look_at_batches(own, ops) end -- batches.lua
    if own then take_locks(own, push, later, given_up, ops) end -- unique.lua
    send(push, later)
    if ops then add_to_batches(own, ops) end
    return 1, 0
  end,
  retry = function(_, payload, delay) add(retry, now() + delay, payload); return 1, 1 end,
  dead = function(_, payload, counted, in_list) bury(dead, payload, in_list == 1); return counted, counted end,
  discard = function() return 1, 1 end,
  expire = function() return 1, 0 end,
  requeue = function(_, queue, payload, push) redis.call(push, queue, payload); return 0, 0 end,
  amend = function(list, payload) redis.call('RPUSH', list, payload); return 0, 0 end,
  snooze = function(_, payload, delay) add(schedule, now() + delay, payload); return 0, 0 end,
}

-- For a link that can't carry the payload of a single outcome: it is known by its digest, and what is amended by what is other than in it.
local function known_by(list, digest)
  for i = 0, redis.call('LLEN', list) - 1 do
    local payload = redis.call('LINDEX', list, i)
    if #payload == digest[2] and redis.sha1hex(payload) == digest[1] then return payload end
  end
end

local function complete(outcome, payload)
  if outcome[2] == 'sends' then return end
  for i = 3, #outcome do
    local part = outcome[i]
    if type(part) == 'table' then outcome[i] = part[1] .. string.sub(payload, part[2], part[3]) .. part[4] end
  end
end

-- List by list: were the next one of the wrong type, nothing would have been taken that isn't written.
local lists, cleared, effects = unpack(cmsgpack.unpack(work))
local processed, failed, result, before, kept = 0, 0, {}, before_payloads, {}
for _, l in ipairs(lists) do
  local list, count, outcomes, digest = unpack(l)
  local payloads = {}
  for i = 1, count do payloads[i] = ARGV[before + i] end
  if digest then
    payloads[1] = known_by(list, digest) or 'tw:' .. ours
    for _, o in ipairs(outcomes) do complete(o, payloads[1]) end
  end
  local taken = take(list, payloads, 'tw:' .. ours) -- a lease's value is no payload
  for i, is_ours in ipairs(taken) do
    if is_ours then
      processed = processed + 1
    else
      result[#result + 1], kept[before - before_payloads + i] = {before - before_payloads + i, 'gone'}, 1
    end
  end
  for _, o in ipairs(outcomes) do
    local i, kind = o[1], o[2]
    if taken[i] then
      local ok, p, f = pcall(write[kind], list, unpack(o, 3))
      if not ok then -- a key of the wrong type, say: the payload goes back to where it was, so that nothing is lost
        redis.call('LPUSH', list, payloads[i])
        result[#result + 1], kept[before - before_payloads + i] = {before - before_payloads + i, words(p)}, 2
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
  redis.pcall('HDEL', crashes, unpack(cleared, first, last))
  redis.pcall('HDEL', suspects, unpack(cleared, first, last))
end
if counts_failures ~= '1' then processed = processed - failed end
count_up(processed_in_all, processed_then, processed)
count_up(failed_in_all, failed_then, failed)
if effects then
  local due = {}
  for _, e in ipairs(effects[2]) do -- what could not be written is still ours, with all that it holds
    if not kept[e[1]] or kept[e[1]] == 1 and e[2] == 1 then due[#due + 1] = e[3] end
  end
  apply(effects[1], due)
  if moves_wait then result[#result + 1] = {0, 'moves'} end -- batches.lua
end
local packed = cmsgpack.pack(result)
redis.call('SET', last_settle, cmsgpack.pack({ours, number, packed}), 'EX', 86400)
return packed
