-- Shared by the scripts by which members of batches are sent and end (a prelude, not a script of its own; after send.lua, before batches.lua): who waits for whom.
-- `key` is that of a batch, as `batches.lua` has it. Under it lies
--   :graph  hash: w:JID, a member that waits: msgpack {score among the successors, queue, its key, how to push, key of the set of queues, on_failure, effects if it is not run};
--           of one that waits for several n:JID how many these still are, and e:JID BEFORE for each of them, so that none counts twice;
--           c:JID into how many pages those are divided that wait for it, and f:JID PAGE one of these: msgpack {jid, …};
--           m:NAME the jid of the member that has this name;
--           x:JID of an open batch, a member that has ended and has not succeeded: who comes later can't wait for it
-- Under `own` lie
--   successors  sorted set: payloads of those that wait, by when they were sent, no two at the same time
--   moving      list: msgpack {effect, …}: what one end has others do and what would take too long in its step; upkeep does it in pages
local FOLLOWERS = 200
local at_once = 500 -- of those that wait so many are moved in one step: no script shall take longer than 10 ms
local moves_wait = false
local touch_locks = touch_named -- as unique.lua has it: batches.lua adds to it

-- Whoever does the upkeep goes on with these.
local function later(own, effects)
  local packed = cmsgpack.pack(effects)
  if type(redis.pcall('RPUSH', own .. 'moving', packed)) == 'table' then redis.pcall('RPUSH', own .. 'repairs', packed) end
  moves_wait = true
end

-- How a job that is to be waited for stands. `known`: what was asked for already.
local function standing(key, jid, known)
  if not known[jid] then
    known[jid] = redis.call('SISMEMBER', key .. ':jids', jid) == 1 and 'pending'
      or redis.call('SISMEMBER', key .. ':dead', jid) == 1 and 'dead'
      or redis.call('HEXISTS', key .. ':graph', 'x:' .. jid) == 1 and 'gone' or 'succeeded'
  end
  return known[jid]
end

-- For whom a successor has to wait, of {jid, …}; nothing if it is to be skipped.
local function to_wait_for(key, befores, on_failure, known)
  local left = {}
  for _, before in ipairs(befores) do
    local how = standing(key, before, known)
    if how == 'pending' or how == 'dead' and on_failure == 'wait' then
      left[#left + 1] = before
    elseif how ~= 'succeeded' and on_failure ~= 'run' then
      return nil
    end
  end
  return left
end

local function keep_followers(graph, followers, fields)
  for before, jids in pairs(followers) do
    local page = tonumber(redis.call('HGET', graph, 'c:' .. before)) or 0
    for first = 1, #jids, FOLLOWERS do
      fields[#fields + 1] = 'f:' .. before .. ' ' .. page
      fields[#fields + 1] = cmsgpack.pack({unpack(jids, first, math.min(first + FOLLOWERS - 1, #jids))})
      page = page + 1
    end
    fields[#fields + 1], fields[#fields + 2] = 'c:' .. before, page
  end
end

-- successors: see look_at_batches; `known`: how some stand that they wait for. Returns the jids of those that are skipped.
local function add_successors(own, key, successors, known)
  local graph, followers, fields, skipped, push = key .. ':graph', {}, {}, {}, {}
  local is_last = redis.call('ZCOUNT', own .. 'successors', string.format('%.17g', now()), '+inf') == 0
  for _, s in ipairs(successors) do
    local jid, payload, way, on_failure = s[1], s[2], s[3], s[5]
    local left = to_wait_for(key, s[4], on_failure, known)
    if not left then
      apply(own, s[6])
      skipped[#skipped + 1] = jid
    elseif #left == 0 then
      push[#push + 1] = {way[1], way[2], {payload}, way[3], way[4]}
    else
      local at = string.format('%.17g', now())
      while not is_last and redis.call('ZCOUNT', own .. 'successors', at, at) > 0 do at = string.format('%.17g', now()) end
      while redis.call('ZADD', own .. 'successors', 'NX', at, payload) == 0 do payload = payload .. blanks() end
      fields[#fields + 1], fields[#fields + 2] = 'w:' .. jid, cmsgpack.pack({at, way[1], way[2], way[3], way[4], on_failure, s[6]})
      if #left > 1 then fields[#fields + 1], fields[#fields + 2] = 'n:' .. jid, #left end
      for _, before in ipairs(left) do
        if #left > 1 then fields[#fields + 1], fields[#fields + 2] = 'e:' .. jid .. ' ' .. before, 1 end
        followers[before] = followers[before] or {}
        table.insert(followers[before], jid)
      end
    end
  end
  keep_followers(graph, followers, fields)
  for first = 1, #fields, 1000 do redis.call('HSET', graph, unpack(fields, first, math.min(first + 999, #fields))) end
  if push[1] then send(push, {}) end
  return skipped
end

-- Whoever has taken a payload from where it waits deals with it: then nothing is to be done here.
local function waiting_successor(own, w)
  return redis.call('ZRANGEBYSCORE', own .. 'successors', w[1], w[1], 'LIMIT', 0, 1)[1]
end

-- One page of those that wait for a job that has ended: they go on, or are skipped, whose jids are added to `skipped`. First they are sent; if that
-- can't be done, nothing was.
local function follow_page(own, graph, jid, how, page, skipped)
  local packed = redis.call('HGET', graph, 'f:' .. jid .. ' ' .. page)
  local jids, names, lefts = packed and cmsgpack.unpack(packed) or {}, {}, {}
  if #jids == 0 then return end
  for i, follower in ipairs(jids) do names[i], lefts[i] = 'w:' .. follower, 'n:' .. follower end
  lefts = redis.call('HMGET', graph, unpack(lefts))
  local push, gone, over, counted, ends = {}, {}, {}, {}, {}
  for i, w in ipairs(redis.call('HMGET', graph, unpack(names))) do
    local follower = jids[i]
    w = w and cmsgpack.unpack(w)
    if w and (how == 'succeeded' or w[6] == 'run') then
      local edge, left = 'e:' .. follower .. ' ' .. jid, tonumber(lefts[i] or 1)
      if not lefts[i] or redis.call('HEXISTS', graph, edge) == 1 then
        if left == 1 then
          local payload = waiting_successor(own, w)
          if payload then
            push[#push + 1] = {w[2], w[3], {payload}, w[4], w[5]}
            gone[#gone + 1] = payload
          end
          over[#over + 1] = names[i]
          if lefts[i] then over[#over + 1], over[#over + 2] = 'n:' .. follower, edge end
        else
          counted[#counted + 1] = {edge, 'n:' .. follower}
        end
      end
    elseif w and (w[6] == 'cancel' or how ~= 'dead') then -- who is dead may be retried, what is gone can't
      local payload = waiting_successor(own, w)
      if payload then
        gone[#gone + 1] = payload
        ends[#ends + 1] = w[7]
        skipped[#skipped + 1] = follower
      end
      over[#over + 1] = names[i]
      if lefts[i] then over[#over + 1] = 'n:' .. follower end
    end
  end
  if push[1] then send(push, {}) end
  touch_locks(own, gone)
  if gone[1] then redis.call('ZREM', own .. 'successors', unpack(gone)) end
  if over[1] then redis.call('HDEL', graph, unpack(over)) end
  for _, c in ipairs(counted) do
    if redis.call('HDEL', graph, c[1]) == 1 then redis.call('HINCRBY', graph, c[2], -1) end
  end
  for _, each in ipairs(ends) do
    if each[1] then apply(own, each) end
  end
  if how ~= 'dead' then redis.call('HDEL', graph, 'f:' .. jid .. ' ' .. page) end
  at_once = at_once - #jids
end

-- A member has ended: what waits for it goes on, or is skipped, from that page on. Returns the jids of those that are skipped.
local function follow(own, id, key, jid, how, page)
  local graph, skipped = key .. ':graph', {}
  local pages = tonumber(redis.call('HGET', graph, 'c:' .. jid)) or 0
  while page < pages do
    if at_once <= 0 then
      later(own, {{'follow', id, jid, how, page}})
      return skipped
    end
    if not pcall(follow_page, own, graph, jid, how, page, skipped) then -- a queue is no list, say: then again with the next beat
      redis.pcall('RPUSH', own .. 'repairs', cmsgpack.pack({{'follow', id, jid, how, page}}))
      return skipped
    end
    page = page + 1
  end
  if pages > 0 and how ~= 'dead' then redis.call('HDEL', graph, 'c:' .. jid) end
  return skipped
end
