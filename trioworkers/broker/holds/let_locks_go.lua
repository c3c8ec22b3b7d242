-- Let locks go whose job is nowhere any more, if nothing of them has moved since; and give back to their queues those that wait for a lock that
-- doesn't know them.
-- work  {{{KEY, jid or '' for what can't be read, when it was touched as text}, …}, {{payload, queue, its key, how to push, key of the set of queues}, …}}
-- result  {how many locks were let go, how many jobs were given back}
local held, lost = unpack(cmsgpack.unpack(work))
local gone, back, keys = 0, 0, {}
for i, h in ipairs(held) do keys[i] = h[1] end
read_locks(own, keys)
local over = {}
for _, h in ipairs(held) do
  local lock = locks[h[1]]
  if h[2] == '' and lock == false then
    gone = gone + redis.call('HDEL', unique, h[1])
  elseif lock and lock[1] == h[2] and string.format('%.17g', lock[3]) == h[3] then
    over[#over + 1] = {'unlock', h[1], h[2]}
    gone = gone + 1
  end
end
apply(own, over)
for _, l in ipairs(lost) do
  local key = named_lock(l[1])
  if key then read_locks(own, {key}) end
  local n, score = key and locks[key] and locks[key][4], redis.call('ZSCORE', own .. 'next', l[1])
  if score and not (n and tonumber(n[1]) == tonumber(score)) and pcall(send, {{l[2], l[3], {l[1]}, l[4], l[5]}}, {}) then
    redis.call('ZREM', own .. 'next', l[1])
    back = back + 1
  end
end
return {gone, back}
