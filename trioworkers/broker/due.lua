-- Which jobs are due, and when the next one will be; and the control messages for this worker. One script, as it is the one thing that
-- an idle worker does again and again.
-- result  {seconds until the next one after these, or '' ; due of retry; due of schedule; messages, oldest first; paused queues; paused classes;
--          what of these can't be read, and why; {size, queue or '', size, …} of what was too large to be read and has been moved;
--          {our time, name of a periodic job that is due, its tick, its definition or '', …}; seconds until the next of these, 'inf', or '' if nobody asked}
-- cron        of who takes ticks: the entries of periodic jobs by their next one, and a key that is there for a while after one became due sooner;
--             up to `ticks` of those that are due come along, and the wait ends with the next
-- look_there  1: look which are due; 0: only if there is that key, for the caller knows when the next one is
-- huge_bytes  what is larger goes to its queue here and now, as it came, without leaving Redis; or to the dead set where its queue
--             stands neither among its first fields nor among its last ones
-- Most of the time there is nothing of all this; or only periodic jobs, none of which is due.
local cron, news = KEYS[before_cron + 1], KEYS[before_cron + 2]
local looks = cron and look_there == '1'
local there = redis.call('EXISTS', unpack({retry, schedule, control, paused_queues, paused_classes, looks and cron or news}))
if there == 0 then return {'', {}, {}, {}, {}, {}, {}, {}, {}, looks and 'inf' or ''} end
looks = looks or cron and redis.call('EXISTS', news) == 1
local problems, entries, coming, t = {}, {}, math.huge, now()
local first = looks and redis.pcall('ZRANGE', cron, 0, 0, 'WITHSCORES') or {}
if first.err then problems[1] = cron .. ': ' .. first.err end
if first[2] then
  coming = tonumber(first[2])
  if there == 1 and coming > t then
    local wait = coming < math.huge and string.format('%.6f', coming - t) or ''
    return {wait, {}, {}, {}, {}, {}, {}, {}, {}, wait ~= '' and wait or 'inf'}
  end
end
local soonest
local huge, most = {}, tonumber(huge_bytes)
local function move(set, payload)
  local name = named_by(payload)
  if name ~= '' then
    send({{name, queue_prefix .. name, {payload}, push, queues}}, {})
  else
    bury(dead, payload, false)
  end
  redis.call('ZREM', set, payload)
  huge[#huge + 1], huge[#huge + 2] = #payload, name
end
local function without_huge(set, payloads)
  local small = {}
  for _, payload in ipairs(payloads) do
    if #payload <= most or not pcall(move, set, payload) then small[#small + 1] = payload end
  end
  return small
end
local result = {}
local function look(i, set)
  local first = redis.pcall('ZRANGE', set, 0, 0, 'WITHSCORES')
  result[i] = {}
  if first.err then problems[#problems + 1] = set .. ': ' .. first.err end
  if not first[2] then return end
  local following = tonumber(first[2])
  if following <= t then
    local payloads, more = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
      return redis.call('ZRANGEBYSCORE', set, '-inf', t, 'LIMIT', offset, count)
    end, 1)
    result[i] = without_huge(set, payloads)
    local next_one = redis.call('ZRANGEBYSCORE', set, '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    following = more and t or tonumber(next_one[2] or math.huge)
  end
  soonest = math.min(soonest or math.huge, following)
end
look(1, retry)
look(2, schedule)
-- What people want is read as far as it can be: a key of the wrong type keeps no due job waiting.
local messages = {}
if coming <= t then
  entries[1] = string.format('%.6f', t)
  local found = redis.call('ZRANGEBYSCORE', cron, '-inf', t, 'WITHSCORES', 'LIMIT', 0, ticks)
  for i = 1, #found, 2 do
    local entry = own .. 'cron:' .. found[i]
    local size = redis.pcall('HSTRLEN', entry, 'definition')
    local definition = type(size) == 'number' and size <= 1000000 and redis.call('HGET', entry, 'definition') or ''
    entries[#entries + 1], entries[#entries + 2], entries[#entries + 3] = found[i], found[i + 1], definition
  end
  coming = t
  if #found < 2 * tonumber(ticks) then
    local following = redis.call('ZRANGEBYSCORE', cron, '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    coming = tonumber(following[2]) or math.huge
  end
end
if coming < math.huge then soonest = math.min(soonest or math.huge, coming) end
local wait = soonest and soonest < math.huge and string.format('%.6f', math.max(0, soonest - t)) or ''
local function members(key)
  local found = redis.pcall('SMEMBERS', key)
  if not found.err then return found end
  problems[#problems + 1] = key .. ': ' .. found.err
  return {}
end
while #messages < 100 do
  local message = redis.pcall('RPOP', control)
  if type(message) ~= 'string' then
    if message then problems[#problems + 1] = control .. ': ' .. message.err end
    break
  end
  messages[#messages + 1] = message
end
local next_tick = (not looks or first.err) and '' or coming < math.huge and string.format('%.6f', math.max(0, coming - t)) or 'inf'
return {wait, result[1], result[2], messages, members(paused_queues), members(paused_classes), problems, huge, entries, next_tick}
