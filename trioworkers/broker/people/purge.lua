-- Forget a page of a queue, as Sidekiq's "clear" does of all of it; from the end that is fetched, so that nothing is lost that comes meanwhile.
-- What may hold something is left and returned: whoever deletes it has to say what that lets go.
-- KEYS    1 the queue  2 queues
-- ARGV    1 its name  2 how many at most  3 bytes after which to stop  4 what our keys begin with
--         5 msgpack {{payload, effects}, …}: these, next in turn or not, are forgotten with what they hold
-- result  {how many payloads that were, how many are left, {payload that may hold something, …}}
local gone = 0
for _, e in ipairs(cmsgpack.unpack(ARGV[5])) do
  if redis.call('LREM', KEYS[1], -1, e[1]) == 1 then
    gone = gone + 1
    apply(ARGV[4], e[2])
  end
end
local page, holders, free = in_pages(tonumber(ARGV[2]), tonumber(ARGV[3]), function(offset, count)
  local payloads = redis.call('LRANGE', KEYS[1], -offset - count, -offset - 1)
  for i = 1, math.floor(#payloads / 2) do payloads[i], payloads[#payloads + 1 - i] = payloads[#payloads + 1 - i], payloads[i] end
  return payloads
end), {}, 0
for _, payload in ipairs(page) do
  if string.find(payload, '"tw_', 1, true) then holders[#holders + 1] = payload elseif #holders == 0 then free = free + 1 end
end
if free > 0 then redis.call('LTRIM', KEYS[1], 0, -free - 1) end
local left = redis.call('LLEN', KEYS[1])
if left == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
return {gone + free, left, holders}
