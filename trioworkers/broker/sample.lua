-- Note how many jobs wait, and how long those that are next have waited: once a minute, whoever of all workers comes first.
-- history  what our key of an hour begins with; behind it ':queues' the same by queue
-- prefix   of the keys of queues
-- kept_s   how long an hour is kept
-- most     at most so many queues are looked at, and of `shown` of them something is noted by name
-- result   0|1: noted now
local at = tonumber(redis.call('TIME')[1])
local hour, minute = string.format('%d', math.floor(at / 3600)), string.format('%d', math.floor(at / 60) % 60)
local key = history .. hour
if redis.call('HEXISTS', key, minute) == 1 then return 0 end
-- Payloads are not decoded here: of a time that is written near their end, as everybody does, it is enough to know where it stands.
local function age(payload)
  local found
  for _, part in ipairs({string.sub(payload, -4096), string.sub(payload, 1, 4096)}) do
    for number in string.gmatch(part, '"enqueued_at"%s*:%s*(%d+%.?%d*)') do
      if tonumber(number) > 1e9 then found = tonumber(number) end -- else it is an argument of that name, say
    end
    if found then break end
  end
  if not found then return 0 end
  if found > 1e11 then found = found / 1000 end -- Sidekiq 8 has milliseconds
  return math.max(0, at - found)
end
local total, worst, all = 0, 0, {}
for i, name in ipairs(redis.call('SMEMBERS', queues)) do
  if i > tonumber(most) then break end
  local size = redis.pcall('LLEN', prefix .. name)
  if type(size) == 'number' and size > 0 then
    local waited = age(redis.call('LINDEX', prefix .. name, -1) or '')
    total, worst = total + size, math.max(worst, waited)
    all[#all + 1] = {string.sub(name, 1, 100), size, math.floor(waited)}
  end
end
table.sort(all, function(a, b)
  if a[3] ~= b[3] then return a[3] > b[3] end
  return a[2] > b[2]
end)
local noted = {}
for i = 1, math.min(#all, tonumber(shown)) do noted[i] = all[i] end
redis.call('HSET', key, minute, total .. ' ' .. math.floor(worst))
redis.call('EXPIRE', key, kept_s)
if #noted > 0 then
  redis.call('HSET', key .. ':queues', minute, cmsgpack.pack(noted))
  redis.call('EXPIRE', key .. ':queues', kept_s)
end
return 1
