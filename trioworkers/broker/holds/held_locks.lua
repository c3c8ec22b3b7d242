-- One step through all locks, and through what is to take one over: those that the search for what others deleted has to look for. Reads only.
-- unique_at, next_at  cursors; -1: through; untouched_s: how long nothing of it has moved
-- result  {next cursor of the locks, of what is to follow; {KEY, jid or '' if it can't be read, when it was touched as text, …}, {payload that no lock knows, …}}
local t, held, lost = now(), {}, {}
local function through(command, key, cursor, each)
  if cursor == '-1' then return '-1' end
  local scanned = redis.call(command, key, cursor, 'COUNT', limit)
  for i = 1, #scanned[2], 2 do each(scanned[2][i], scanned[2][i + 1]) end
  return scanned[1] == '0' and '-1' or scanned[1]
end
local function add(key, jid, touched)
  held[#held + 1], held[#held + 2], held[#held + 3] = key, jid, touched
end
local locks_at = through('HSCAN', unique, unique_at, function(key, packed)
  local lock = read_lock(packed)
  if not lock then
    add(key, '', '0')
  elseif t - lock[3] >= tonumber(untouched_s) or lock[3] > t then
    add(key, lock[1], string.format('%.17g', lock[3]))
  end
end)
local following_at = through('ZSCAN', own .. 'next', next_at, function(payload, score)
  local key = named_lock(payload)
  if key then read_locks(own, {key}) end
  local n = key and locks[key] and locks[key][4]
  if not (n and tonumber(n[1]) == tonumber(score)) and t - tonumber(score) >= tonumber(untouched_s) then lost[#lost + 1] = payload end
end)
return {locks_at, following_at, held, lost}
