-- Permits for parts of attempts, which wait within their slots: one round of all that a worker's jobs want of them.
-- lease  ours; who has lost it is given nothing
-- work   {entering, leaving, asking}
--          entering {{holds, member, jid, queue, LIMIT or LIMIT:KEY, that limit as our code has it}, …}
--          leaving  {{holds, member, name, moment or ''}, …}: wants it no more, has it or not
--          asking   {{holds, member, jid, queue, name, moment}, …}: waits; stands there again if somebody took it away
-- result  msgpack {{moment of each that enters; '' if it may go on, …}, {member that may go on now, …}}; an error instead of a moment, if its keys are
--         broken; 'unleased', if our lease is gone; error SUPERSEDED. May be repeated.
redis.call('HLEN', own .. 'parked_jobs') -- fails here, before anything is written, if it is no hash
local entering, leaving, asking = unpack(cmsgpack.unpack(work))
local names = {}
for _, w in ipairs(leaving) do
  local holds, member, name, moment = unpack(w)
  if moment ~= '' then
    pcall(function() wait_no_more(limit_of(own, name), moment) end)
    forget_waiting(own, moment)
  end
  pcall(let_go, own, holds, {{member, {name}, ''}})
end
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
if not holder then -- others may think us dead: nobody gets anything until our next heartbeat
  local unleased = {}
  for i = 1, #entering do unleased[i] = 'unleased' end
  return cmsgpack.pack({unleased, {}})
end

local function has_it(holds, member)
  local what = unpacked(redis.call('HGET', holds, member))
  return what and type(what[2]) == 'table' and #what[2] > 0, what
end

local function wait(holds, member, jid, queue, name)
  redis.call('HSET', holds, member, cmsgpack.pack({jid, {}, 1}))
  return note_waiting(own, limit_of(own, name), {jid, queue, '', '', {name}, false, {}, holds, member})
end

local function enter(holds, member, jid, queue, name, spec)
  local has, known = has_it(holds, member)
  if has then return '' end
  local l = limit_of(own, name, spec)
  if l.is_news then redis.call('HSET', own .. 'limits', l.is_news, cmsgpack.pack({spec[1], 0, now(), spec[4], spec[5]})) end
  if known and type(known[4]) == 'string' then return known[4] end -- a repeated call
  if l.parked == 0 and free_at(l) == 0 then
    redis.call('HSET', holds, member, cmsgpack.pack({jid, {name}, 1}))
    l.used = l.used + redis.call('SADD', l.permits, member)
    spend(l)
    write_gates(own)
    return ''
  end
  local moment = wait(holds, member, jid, queue, name)
  redis.call('HSET', holds, member, cmsgpack.pack({jid, {}, 1, moment}))
  names[name] = true
  return moment
end

local moments, granted = {}, {}
for i, w in ipairs(entering) do
  local ok, moment = pcall(enter, unpack(w))
  moments[i] = ok and moment or 'error ' .. words(moment)
end
for _, w in ipairs(asking) do
  local holds, member, jid, queue, name, moment = unpack(w)
  pcall(function()
    if has_it(holds, member) then return end
    if redis.call('SISMEMBER', own .. 'permits:' .. name, member) == 1 then -- it was given one, and somebody deleted the record: it must not wait for its own
      redis.call('HSET', holds, member, cmsgpack.pack({jid, {name}, 1}))
      return
    end
    local packed = cmsgpack.pack({jid, queue, '', '', {name}, false, {}, holds, member})
    redis.call('HSET', holds, member, cmsgpack.pack({jid, {}, 1, moment}))
    redis.call('HSETNX', own .. 'parked_jobs', moment, packed)
    if not redis.call('ZSCORE', own .. 'waiting:' .. name, moment) then wait_at(limit_of(own, name), moment) end
    names[name] = true
  end)
end
for name in pairs(names) do pcall(fill, own, name) end
for _, w in ipairs(entering) do
  local ok, has = pcall(has_it, w[1], w[2])
  if ok and has then granted[#granted + 1] = w[2] end
end
for _, w in ipairs(asking) do
  local ok, has = pcall(has_it, w[1], w[2])
  if ok and has then granted[#granted + 1] = w[2] end
end
return cmsgpack.pack({moments, granted})
