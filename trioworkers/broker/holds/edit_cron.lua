-- What people want of one periodic job.
-- name, action  'put' an entry that lives in Redis only; 'restore' one that was exported, if there is none of that name; 'delete' it, or one of code that nobody declares any more; 'pause', 'resume'; 'run' it now
-- definition, timing, following  put, restore: what it is from now on, with its next tick. Of 'resume' and 'run' the definition is the one that was read: the next tick, or the job, is
--           made from it
-- work      packed {1 if it is paused} of 'restore'; {push, later, own or '', jid, tick, 1 if another one in its place means that it is skipped} of 'run'
-- result    'OK'; 'THERE': there is one, and it stays as it is; 'NONE': there is no such entry; 'CODE': it is declared in code; 'CHANGED': it is another one by now; or the jid of who was there already, of a unique job
local cron, entry = own .. 'cron', own .. 'cron:' .. name
local score = redis.call('ZSCORE', cron, name)

-- Workers know when the next tick is, and look sooner while this key is there.
local function be_due(following)
  redis.call('ZADD', cron, following, name)
  redis.call('SET', own .. 'cron_news', 1, 'EX', news_s)
end

local function is_declared()
  local found = redis.call('HGETALL', own .. 'cron_declared')
  for i = 1, #found, 2 do
    if (tonumber(found[i + 1]) or 0) > now() - tonumber(forgotten_after_s)
      and redis.call('SISMEMBER', own .. 'cron_names:' .. found[i], name) == 1 then return true end
  end
  return false
end

if action == 'restore' then
  if score then return redis.pcall('HGET', entry, 'origin') == 'code' and is_declared() and 'CODE' or 'THERE' end
  redis.call('UNLINK', entry)
  redis.call('HSET', entry, 'definition', definition, 'timing', timing, 'since', string.format('%.6f', now()), 'origin', 'dynamic')
  if cmsgpack.unpack(work)[1] == 1 then
    redis.call('HSET', entry, 'paused', '1')
    redis.call('ZADD', cron, 'inf', name)
  else
    be_due(following)
  end
  return 'OK'
end
if action == 'put' then
  local found = redis.pcall('HMGET', entry, 'origin', 'timing', 'paused')
  if found.err then
    redis.call('UNLINK', entry)
    found = {false, false, false}
  end
  if found[1] == 'code' and is_declared() then return 'CODE' end
  redis.call('HSET', entry, 'definition', definition, 'timing', timing, 'since', string.format('%.6f', now()), 'origin', 'dynamic')
  redis.call('HDEL', entry, 'broken')
  if found[3] then
    redis.call('ZADD', cron, 'inf', name)
  elseif not score or score == 'inf' or found[2] ~= timing then
    be_due(following)
  end
  return 'OK'
end

if not score then return 'NONE' end
if action == 'delete' then
  if redis.pcall('HGET', entry, 'origin') == 'code' and is_declared() then return 'CODE' end
  redis.call('ZREM', cron, name)
  redis.call('UNLINK', entry, own .. 'runs:' .. name)
  return 'OK'
end
if action == 'pause' then
  redis.call('HSET', entry, 'paused', '1')
  redis.call('ZADD', cron, 'inf', name)
  return 'OK'
end
if redis.call('HGET', entry, 'definition') ~= definition then return 'CHANGED' end
if action == 'resume' then
  if redis.call('HDEL', entry, 'paused', 'broken') > 0 or score == 'inf' then be_due(following) end
  return 'OK'
end
local push, later, locked, jid, tick, skips = unpack(cmsgpack.unpack(work))
local there = {}
look('HLEN', own .. 'unique')
look_at(push, later)
if locked ~= '' then there = take_locks(own, push, later) end
send(push, later)
note_runs(own, name, {{jid, tick, there[2] and skips == 1 and 'skipped' or 'sent'}}, tonumber(kept_runs))
return there[2] or 'OK'
