-- Shared by the scripts by which a worker takes back what is in its own list, or adds to counters (a prelude, not a script of its own).
-- is_late(key, ours, number): whether this call is a copy, or older than one that was carried out: it was sent over a connection that broke, whose
-- bytes Redis went on reading. The newer one did its work, and what is there by now is not what this one meant. Else its number is noted.
local function is_late(key, ours, number)
  local known, last = pcall(cmsgpack.unpack, redis.pcall('GET', key) or '')
  if known and type(last) == 'table' and last[1] == ours and type(last[2]) == 'number' and last[2] >= tonumber(number) then return true end
  redis.call('SET', key, cmsgpack.pack({ours, tonumber(number)}), 'EX', 3600)
  return false
end

