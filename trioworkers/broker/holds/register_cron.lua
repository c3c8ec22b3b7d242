-- A process declares the entries of its code. Of two versions the one that was started last has its way; an older one only says that it is there.
-- entries   packed {{name, definition, timing, next tick}, …}; schedule: what stands for all of them together
-- since     when this process first did so, in epoch seconds by Redis's clock: the same each time, so that a copy that is carried out late has no later one
-- sweep     1: entries of code that no live process has declared for so long leave
-- result    msgpack {{name of an entry that is new or changed, …}, {name of one that left, …}}; error SUPERSEDED; nothing if the lease is gone: then
--           this may be a copy that is carried out when its process is no more
local holder = redis.call('GET', lease)
if not holder then return false end
if holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
local cron, declared = own .. 'cron', own .. 'cron_declared'
local t = now()
local started = tonumber(since)

local is_news = false

local function declare(name, definition, timing, following)
  local entry = own .. 'cron:' .. name
  local found = redis.pcall('HMGET', entry, 'definition', 'since', 'timing', 'paused')
  if found.err then -- not a hash: none of ours wrote that
    redis.call('UNLINK', entry)
    found = {false, false, false, false}
  end
  local changed = found[1] ~= definition
  local latest = found[1] and tonumber(found[2]) or 0
  if changed and latest >= started then return false end
  redis.call('HSET', entry, 'definition', definition, 'timing', timing, 'since', string.format('%.6f', math.max(latest, started)), 'origin', 'code')
  redis.call('HDEL', entry, 'broken')
  local score = redis.call('ZSCORE', cron, name)
  if found[4] then
    if not score then redis.call('ZADD', cron, 'inf', name) end
  elseif not score or score == 'inf' or found[3] ~= timing then
    redis.call('ZADD', cron, following, name)
    is_news = true
  end
  return changed
end

local changed, left, names = {}, {}, {}
for _, e in ipairs(cmsgpack.unpack(entries)) do
  if declare(unpack(e)) then changed[#changed + 1] = e[1] end
  names[#names + 1] = e[1]
end
if is_news then redis.call('SET', own .. 'cron_news', 1, 'EX', news_s) end -- workers know when the next tick is, and look sooner while this is there
if #names > 0 then
  redis.call('SADD', own .. 'cron_names:' .. schedule, unpack(names))
  redis.call('HSET', declared, schedule, string.format('%.6f', t))
end
if sweep == '1' then
  local alive, found = {}, redis.call('HGETALL', declared)
  for i = 1, #found, 2 do
    if (tonumber(found[i + 1]) or 0) > t - tonumber(forgotten_after_s) then
      for _, name in ipairs(redis.call('SMEMBERS', own .. 'cron_names:' .. found[i])) do alive[name] = true end
    else
      redis.call('HDEL', declared, found[i])
      redis.call('UNLINK', own .. 'cron_names:' .. found[i])
    end
  end
  for _, name in ipairs(redis.call('ZRANGE', cron, 0, -1)) do
    if not alive[name] and redis.pcall('HGET', own .. 'cron:' .. name, 'origin') == 'code' then
      redis.call('ZREM', cron, name)
      redis.call('UNLINK', own .. 'cron:' .. name, own .. 'runs:' .. name)
      left[#left + 1] = name
    end
  end
end
return cmsgpack.pack({changed, left})
