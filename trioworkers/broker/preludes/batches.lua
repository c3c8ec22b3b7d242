-- Shared by the scripts by which members of batches are sent and end (a prelude, not a script of its own; after graphs.lua, before effects.lua).
-- `own` is what all keys of ours begin with. Under it lie
--   batch:ID       hash: state open | sealed, description, created, added (when members were last), abandoned_after, total, how many ended how, cancelled, parent, depth;
--                  on_EVENT: a callback, msgpack {queue, its key, how to push, key of the set of queues, payload before the time of its sending, and after it or false};
--                  fired_EVENT: when that was sent
--   batch:ID:jids  set: members that have not ended; of a batch in a batch B:ID
--   batch:ID:dead  set: members that are dead
--   batch:ID:graph who waits for whom: see graphs.lua
--   batch:ID:results  hash: name of a member → what it returned, in JSON
--   batches        sorted set: ID by when it moved last
--   cancelled      set: ID of those that are cancelled and not over
-- Counts are made of what SREM says, so nothing counts twice, whoever says it how often.

-- The batch of a payload, and whatever in it looks like a jid: its own is among them.
local function named_batch(payload)
  return string.find(payload, '"tw_batch"', 1, true) and string.match(payload, '"tw_batch"%s*:%s*"([%w_-]+)"')
end

-- Members have moved: so they are somewhere.
local function touch_batches(own, ids)
  for _, id in ipairs(ids) do redis.call('ZADD', own .. 'batches', 'XX', now(), id) end
end

touch_named = function(own, payloads)
  touch_locks(own, payloads)
  local ids, known = {}, {}
  for _, payload in ipairs(payloads) do
    local id = named_batch(payload)
    if id and not known[id] then
      known[id] = true
      ids[#ids + 1] = id
    end
  end
  if #ids > 0 then pcall(touch_batches, own, ids) end
end

local DEAD_S, OVER_S = 15552000, 86400

local function batch_key(own, id) return own .. 'batch:' .. id end

-- An error if nothing can be added to a batch. One that is over, but has dead members, takes what these add when they are retried.
local function look_whether_it_takes(own, id)
  local key = batch_key(own, id)
  local fields = redis.call('HMGET', key, 'state', 'cancelled', 'fired_finished')
  if not fields[1] or fields[3] and redis.call('SCARD', key .. ':dead') == 0 then
    error({err = 'ERR batch ' .. id .. ' is over, or never was: nothing can be added to it'})
  elseif fields[2] then
    error({err = 'ERR batch ' .. id .. ' is cancelled: nothing can be added to it'})
  end
end

-- Errors before anything is written. ops: {{ID, {jid, …}, opening or false, 1 if it is to be sealed, {successor, …}, and if some have names {name, its jid, …}}, …}
--   successor {jid, payload (or of a unique one what stands for it: see unique.lua), {queue, its key, how to push, key of the set of queues}, {jid that it waits for, …}, on_failure, effects if it is not run}
local function look_at_batches(own, ops)
  for _, op in ipairs(ops) do
    local id, jids, opening = op[1], op[2], op[3]
    local key = batch_key(own, id)
    -- Whatever is to be written is looked at, for from there on nothing may fail: what was sent would seem not to be, and would be sent again.
    redis.call('SCARD', key .. ':jids')
    redis.call('SCARD', key .. ':dead')
    redis.call('HLEN', key .. ':graph')
    for _, s in ipairs(op[5]) do look('LLEN', s[3][2]) end
    redis.call('ZCARD', own .. 'batches')
    redis.call('ZCARD', own .. 'successors')
    if opening and opening[2] then redis.call('SCARD', batch_key(own, opening[2]) .. ':jids') end
    if opening then
      if redis.call('HGET', key, 'state') then error({err = 'ERR batch ' .. id .. ' is there already'}) end
      if opening[2] then
        look_whether_it_takes(own, opening[2])
        local depth = redis.call('HGET', batch_key(own, opening[2]), 'depth')
        if (tonumber(depth or 1) or 16) >= 16 then error({err = 'ERR batches are nested 16 deep at most'}) end
      end
    elseif op[4] ~= 1 then
      look_whether_it_takes(own, id)
    elseif not redis.call('HGET', key, 'state') or redis.call('HGET', key, 'fired_finished') then
      error({err = 'ERR batch ' .. id .. ' is over, or never was: nothing can be added to it'})
    end
    for i = 1, #(op[6] or {}), 2 do
      if redis.call('HEXISTS', key .. ':graph', 'm:' .. op[6][i]) == 1 then
        error({err = 'ERR batch ' .. id .. ' has a member named ' .. op[6][i] .. ' already'})
      end
    end
    for first = 1, #jids, 1000 do
      local found = redis.call('SMISMEMBER', key .. ':jids', unpack(jids, first, math.min(first + 999, #jids)))
      for i, is_there in ipairs(found) do
        if is_there == 1 then error({err = 'ERR job ' .. jids[first + i - 1] .. ' is in batch ' .. id .. ' already'}) end
      end
    end
  end
end

-- A callback; none if somebody has written over it: it can't be sent then, and shall not keep the batch, and that in which it lies, from ending.
local function read_callback(packed)
  local known, c = pcall(cmsgpack.unpack, packed)
  if not known or type(c) ~= 'table' or c[3] ~= 'LPUSH' and c[3] ~= 'RPUSH' then return nil end
  for i = 1, 5 do
    if type(c[i]) ~= 'string' then return nil end
  end
  return (not c[6] or type(c[6]) == 'string') and c or nil
end

local function fire(own, key, event)
  local fields = redis.call('HMGET', key, 'fired_' .. event, 'on_' .. event)
  if fields[1] then return end
  local c = fields[2] and read_callback(fields[2])
  if c then
    local payload = c[6] and c[5] .. string.format('%.6f', now()) .. c[6] or c[5]
    send({{c[1], c[2], {payload}, c[3], c[4]}}, {})
  end
  redis.call('HSET', key, 'fired_' .. event, string.format('%.6f', now()))
end

local member_ended

-- What follows from how many members are left. May be called at any time, and any number of times.
local function look_whether_over(own, id)
  local key = batch_key(own, id)
  local fields = redis.call('HMGET', key, 'state', 'parent', 'not_succeeded', 'fired_success')
  if not fields[1] then return end
  local pending, dead = redis.call('SCARD', key .. ':jids'), redis.call('SCARD', key .. ':dead')
  if dead > 0 then fire(own, key, 'death') end
  if fields[1] == 'sealed' and pending == 0 then
    fire(own, key, 'finished')
    redis.pcall('SREM', own .. 'cancelled', id) -- is that no set, it says nothing of batches either
    if dead == 0 and not fields[3] then fire(own, key, 'success') end
    local stays = dead > 0 and DEAD_S or OVER_S
    for _, each in ipairs({key, key .. ':dead', key .. ':graph', key .. ':results'}) do redis.call('EXPIRE', each, stays) end
    if fields[2] then
      member_ended(own, fields[2], {{'member', fields[2], 'B:' .. id, dead > 0 and 'dead' or fields[3] and 'discarded' or 'succeeded'}})
    end
  end
end

local function count(key, name, n)
  if n > 0 then redis.call('HINCRBY', key, name, n) end
end

-- What ends with a member whose own end is written: more members, as far as there is time in this step.
local function also_ends(own, id, list, skipped)
  local rest = {}
  for _, jid in ipairs(skipped) do
    local e = {'member', id, jid, 'skipped'}
    if at_once > 0 then
      at_once = at_once - 1
      list[#list + 1] = e
    else
      rest[#rest + 1] = e
      if #rest == FOLLOWERS then
        later(own, rest)
        rest = {}
      end
    end
  end
  if rest[1] then later(own, rest) end
end

-- Takes those of a list that are members, from `first` on, from where members are, many at once: {index in the list = 1, or 2 of one that was dead}, and
-- which was the last: no more than a thousand, and none twice.
local function take_members(key, list, first)
  local jids, at, taken, last = {}, {}, {}, math.min(#list, first + 999)
  for i = first, last do
    local jid = list[i][3]
    if jid and at[jid] then
      last = i - 1
      break
    elseif jid then
      at[jid] = i
      jids[#jids + 1] = jid
    end
  end
  for kind, set in ipairs({key .. ':jids', key .. ':dead'}) do
    if #jids == 0 then break end
    local there, gone, rest = redis.call('SMISMEMBER', set, unpack(jids)), {}, {}
    for i, jid in ipairs(jids) do
      if there[i] == 1 then
        gone[#gone + 1] = jid
        taken[at[jid]] = kind
      else
        rest[#rest + 1] = jid
      end
    end
    if gone[1] then redis.call('SREM', set, unpack(gone)) end
    jids = rest
  end
  return taken, last
end

-- list: of one batch {{'member', ID, jid, how it ended, its name and its result, of one that others may ask}, …}; without a jid: nothing but a look
-- What can't be noted of one (its counter is no number any more, say) keeps no other from ending.
function member_ended(own, id, list)
  local key = batch_key(own, id)
  local state = redis.call('HGET', key, 'state')
  if not state then return end
  local counts, is_whole, has_graph, number = {}, true, redis.call('HLEN', key .. ':graph') > 0, 1
  redis.call('SCARD', key .. ':dead')
  while list[number] do -- it grows by those that are skipped
    local taken, last = take_members(key, list, number)
    for i = number, last do
      local jid, how, name, value = list[i][3], list[i][4], list[i][5], list[i][6]
      if taken[i] then
        if taken[i] == 2 then counts.dead = (counts.dead or 0) - 1 end
        counts[how] = (counts[how] or 0) + 1
        if name then redis.pcall('HSET', key .. ':results', name, value) end
        if how == 'dead' then
          redis.call('SADD', key .. ':dead', jid)
        elseif how ~= 'succeeded' then
          is_whole = false
          if state == 'open' then redis.pcall('HSET', key .. ':graph', 'x:' .. jid, 1) end
        end
        if has_graph then also_ends(own, id, list, follow(own, id, key, jid, how, 0)) end
      end
    end
    number = last + 1
  end
  for how, n in pairs(counts) do
    if n ~= 0 then redis.pcall('HINCRBY', key, how, n) end
  end
  if not is_whole then redis.call('HSET', key, 'not_succeeded', 1) end
  redis.call('ZADD', own .. 'batches', 'XX', now(), id)
  look_whether_over(own, id)
end

-- What was left of those that wait for a member that has ended.
local function follow_on(own, list)
  for _, e in ipairs(list) do
    local ends = {}
    also_ends(own, e[2], ends, follow(own, e[2], batch_key(own, e[2]), e[3], e[4], e[5]))
    if ends[1] then member_ended(own, e[2], ends) end
  end
end

local function members_ended(own, list)
  local by_batch, order = {}, {}
  for _, e in ipairs(list) do
    if not by_batch[e[2]] then
      by_batch[e[2]] = {}
      order[#order + 1] = e[2]
    end
    table.insert(by_batch[e[2]], e)
  end
  for _, id in ipairs(order) do
    if not pcall(member_ended, own, id, by_batch[id]) then -- a callback can't be pushed now, say: whatever was counted is counted
      redis.pcall('RPUSH', own .. 'repairs', cmsgpack.pack(by_batch[id]))
    end
  end
end

-- What follows from how many members are left, where nothing may fail any more (a callback's queue is no list, say): then it is done by whoever does the upkeep.
local function see_whether_over(own, id)
  if not pcall(look_whether_over, own, id) then redis.pcall('RPUSH', own .. 'repairs', cmsgpack.pack({{'member', id}})) end
end

-- Takes no more members. What waits is dropped where it is fetched. Returns 0 if there is no such batch, or it is over.
local function cancel_batch(own, id)
  local key = batch_key(own, id)
  local fields = redis.call('HMGET', key, 'state', 'fired_finished')
  if not fields[1] or fields[2] then return 0 end
  redis.call('SADD', own .. 'cancelled', id)
  redis.call('HSETNX', key, 'cancelled', string.format('%.6f', now())) -- a copy that comes late changes nothing
  redis.call('HSET', key, 'state', 'sealed', 'not_succeeded', 1)
  see_whether_over(own, id)
  return 1
end

-- Unique jobs that were not sent are no members. Who waits for one can't know when its like is done: for him it is gone.
local function without_unsent(key, jids, known)
  local members = {}
  for _, jid in ipairs(jids) do
    if unsent[jid] then
      known[jid] = 'gone'
      if redis.call('HGET', key, 'state') == 'open' then redis.call('HSET', key .. ':graph', 'x:' .. jid, 1) end
    else
      members[#members + 1] = jid
    end
  end
  return members
end

-- After what is sent with them was.
local function add_to_batches(own, ops)
  for _, op in ipairs(ops) do
    local id, jids, opening, seals, known = op[1], op[2], op[3], op[4] == 1, {}
    local key = batch_key(own, id)
    if opening then
      redis.call('HSET', key, 'state', 'open', 'description', opening[1], 'created', string.format('%.6f', now()), 'total', 0)
      if opening[4] then redis.call('HSET', key, 'abandoned_after', opening[4]) end
      for event, callback in pairs(opening[3]) do redis.call('HSET', key, 'on_' .. event, cmsgpack.pack(callback)) end
      redis.call('ZADD', own .. 'batches', now(), id)
      if opening[2] then
        redis.call('HSET', key, 'parent', opening[2], 'depth', 1 + (tonumber(redis.call('HGET', batch_key(own, opening[2]), 'depth') or 1) or 1))
        redis.call('SADD', batch_key(own, opening[2]) .. ':jids', 'B:' .. id)
        redis.call('HINCRBY', batch_key(own, opening[2]), 'total', 1)
      end
    end
    if next(unsent) then jids = without_unsent(key, jids, known) end
    for first = 1, #jids, 1000 do
      redis.call('SADD', key .. ':jids', unpack(jids, first, math.min(first + 999, #jids)))
    end
    for i = 1, #(op[6] or {}), 2 do
      if not unsent[op[6][i + 1]] then redis.call('HSET', key .. ':graph', 'm:' .. op[6][i], op[6][i + 1]) end
    end
    count(key, 'total', #jids)
    redis.call('HSET', key, 'added', string.format('%.6f', now()))
    local skipped = op[5][1] and add_successors(own, key, op[5], known) or {}
    if skipped[1] then
      local ends = {}
      also_ends(own, id, ends, skipped)
      if not pcall(member_ended, own, id, ends) then redis.pcall('RPUSH', own .. 'repairs', cmsgpack.pack(ends)) end
    end
    redis.call('ZADD', own .. 'batches', 'XX', now(), id)
    if seals then
      redis.call('HSET', key, 'state', 'sealed')
      see_whether_over(own, id)
    end
  end
end
