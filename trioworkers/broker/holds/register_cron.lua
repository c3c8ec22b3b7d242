-- A process declares the entries of its code. Of two versions the one that was started last has its way; an older one only says that it is there.
-- entries   packed {{name, definition, timing, next tick}, …}; schedule: what stands for all of them together
-- since     when this process first did so, in epoch seconds, or '' if it does now
-- sweep     1: entries of code that no live process has declared for so long leave
-- result    msgpack {since, {name of an entry that is new or changed, …}, {name of one that left, …}}
local cron, declared = own .. 'cron', own .. 'cron_declared'
local t = now()
local started = tonumber(since) or t

local function declare(name, definition, timing, following)
  local entry = own .. 'cron:' .. name
  local found = redis.pcall('HMGET', entry, 'definition', 'since', 'timing', 'paused')
  if found.err then -- not a hash: none of ours wrote that
    redis.call('UNLINK', entry)
    found = {false, false, false, false}
  end
  local changed = found[1] ~= definition
  if found[1] and changed and (tonumber(found[2]) or 0) >= started then return false end
  redis.call('HSET', entry, 'definition', definition, 'timing', timing, 'since', string.format('%.6f', started), 'origin', 'code')
  redis.call('HDEL', entry, 'broken')
  local score = redis.call('ZSCORE', cron, name)
  if found[4] then
    if not score then redis.call('ZADD', cron, 'inf', name) end
  elseif not score or score == 'inf' or found[3] ~= timing then
    redis.call('ZADD', cron, following, name)
  end
  return changed
end

local changed, left, names = {}, {}, {}
for _, e in ipairs(cmsgpack.unpack(entries)) do
  if declare(unpack(e)) then changed[#changed + 1] = e[1] end
  names[#names + 1] = e[1]
end
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
return cmsgpack.pack({string.format('%.6f', started), changed, left})
