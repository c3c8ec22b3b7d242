-- Deal with periodic jobs that are due. Whoever comes first with a tick has it: nobody is chosen, and nothing is held meanwhile.
-- own    what all keys of ours begin with. Under it lie
--   cron            sorted set: names of entries by their next tick, in epoch seconds; inf: none, or paused, or broken
--   cron:ENTRY      hash: definition, timing, since (when that process started which declared it), origin (code or dynamic), paused, broken
--   runs:ENTRY      hash: jid → msgpack {tick, when it was sent, how, when it ended or false}, the last few
--   cron_declared   hash: schedule → when a live process of it was last heard of; cron_names:SCHEDULE set: its entries
-- takes  packed {{name, tick as its score was given, definition, next tick, what is broken or '', push, later, own or '', runs}, …}
--          runs  {{jid, tick, how, number of its job among those sent or -1, 1 if another one in its place means that it is skipped}, …}
-- result msgpack {{'taken', number of a unique job that was not alone, jid of who was there, …}, …}; or for one {'late'} (others had it), {'early'},
--        {'changed'}, {'forgotten'} (nobody declares it any more), {'error', words}: then nothing was done about it, but for what is forgotten
local FORGOTTEN_AFTER_S, KEPT = tonumber(forgotten_after_s), tonumber(kept_runs)
local cron = own .. 'cron'
local alive

local function is_declared(name)
  if not alive then
    alive = {}
    local found = redis.call('HGETALL', own .. 'cron_declared')
    for i = 1, #found, 2 do
      if (tonumber(found[i + 1]) or 0) > now() - FORGOTTEN_AFTER_S then alive[#alive + 1] = found[i] end
    end
  end
  for _, schedule in ipairs(alive) do
    if redis.call('SISMEMBER', own .. 'cron_names:' .. schedule, name) == 1 then return true end
  end
  return false
end

local function put_aside(name, reason)
  if type(redis.pcall('HSET', own .. 'cron:' .. name, 'broken', reason)) == 'table' or redis.call('HEXISTS', own .. 'cron:' .. name, 'definition') == 0 then
    redis.call('ZREM', cron, name) -- nothing is known of it
    redis.call('UNLINK', own .. 'cron:' .. name)
  else
    redis.call('ZADD', cron, 'inf', name)
  end
  return {'taken'}
end

local function take_tick(name, tick, definition, following, broken, push, later, locked, runs)
  local entry = own .. 'cron:' .. name
  if redis.call('ZSCORE', cron, name) ~= tick then return {'late'} end
  if tonumber(tick) > now() then return {'early'} end
  if broken ~= '' then return put_aside(name, broken) end
  local there, origin = unpack(redis.call('HMGET', entry, 'definition', 'origin'))
  if there ~= definition then return {'changed'} end
  if origin ~= 'dynamic' and not is_declared(name) then
    redis.call('ZREM', cron, name)
    redis.call('UNLINK', entry, own .. 'runs:' .. name)
    return {'forgotten'}
  end
  if not (tonumber(following) > tonumber(tick)) then return {'error', 'the next tick is not after this one'} end
  local answer, duplicates = {'taken'}, {}
  look('HLEN', own .. 'unique')
  look_at(push, later)
  note_runs(own, name, runs, KEPT) -- first, for one of them may replace another
  if locked ~= '' then
    local there_already = take_locks(own, push, later)
    for i = 1, #there_already, 2 do
      duplicates[there_already[i]] = there_already[i + 1]
      answer[#answer + 1], answer[#answer + 2] = there_already[i], there_already[i + 1]
    end
  end
  send(push, later)
  redis.call('ZADD', cron, following, name)
  for _, r in ipairs(runs) do
    if r[5] == 1 and duplicates[r[4]] then end_runs(own, {{'run', name, r[1], 'skipped'}}) end
  end
  return answer
end

local result = {}
for i, take in ipairs(cmsgpack.unpack(takes)) do
  local ok, answer = pcall(take_tick, unpack(take))
  result[i] = ok and answer or {'error', words(answer)}
end
return cmsgpack.pack(result)
