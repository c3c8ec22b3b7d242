-- Forget a page of a queue, as Sidekiq's "clear" does of all of it; from the end that is fetched, so that nothing is lost that comes meanwhile.
-- What may hold something is left and returned: whoever deletes it has to say what that lets go.
-- work  {{payload, effects}, …}: these, next in turn or not, are forgotten with what they hold
-- result  {how many payloads that were, how many are left, {payload that may hold something, …}}
local gone = 0
for _, e in ipairs(cmsgpack.unpack(work)) do
  if redis.call('LREM', queue, -1, e[1]) == 1 then
    gone = gone + 1
    apply(own, e[2])
  end
end
local page, holders, free = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
  local payloads = redis.call('LRANGE', queue, -offset - count, -offset - 1)
  for i = 1, math.floor(#payloads / 2) do payloads[i], payloads[#payloads + 1 - i] = payloads[#payloads + 1 - i], payloads[i] end
  return payloads
end, 1), {}, 0
for _, payload in ipairs(page) do
  if string.find(payload, '"tw_', 1, true) then holders[#holders + 1] = payload elseif #holders == 0 then free = free + 1 end
end
if free > 0 then redis.call('LTRIM', queue, 0, -free - 1) end
local left = redis.call('LLEN', queue)
if left == 0 then redis.call('SREM', queues, name) end
return {gone + free, left, holders}
