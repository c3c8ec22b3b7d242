-- Which of resque-scheduler's delayed jobs are due, and when the next one will be. Seconds whose list is gone are struck.
-- huge_bytes  what is larger goes to its queue here and now, as it came, without leaving Redis; or, where its queue stands neither among its first fields
--             nor among its last ones, to the failed list, in the record that before and after make
-- result  {seconds until the next one after these, or '' ; {payload, …}; who holds resque-scheduler's master lock, or '': to them all is left;
--          {size, queue or '', size, …} of what was too large to be read and has been moved}
local scheduler = scheduling(lock, inner_lock)
if scheduler then return {'', {}, scheduler, {}} end
local count, bytes, most, huge = tonumber(limit), tonumber(max_bytes), tonumber(huge_bytes), {}
local function move(second, payload)
  local name = named_by(payload)
  if name ~= '' then
    send({{name, queue_prefix .. name, {payload}, 'RPUSH', queues}}, {})
  else
    redis.call('RPUSH', failed, before .. cjson.encode(payload) .. after)
  end
  redis.call('LREM', second_prefix .. second, 1, payload)
  redis.call('SREM', payload_prefix .. payload, 'delayed:' .. second)
  huge[#huge + 1], huge[#huge + 2] = #payload, name
end
local t, due = now(), {}
for _, second in ipairs(redis.call('ZRANGEBYSCORE', seconds, '-inf', t, 'LIMIT', 0, count)) do
  local found, more = in_pages(count - #due, bytes, function(offset, page)
    return redis.call('LRANGE', second_prefix .. second, offset, offset + page - 1)
  end, 1)
  if #found == 0 then redis.call('ZREM', seconds, second) end
  for _, payload in ipairs(found) do
    if #payload <= most or not pcall(move, second, payload) then due[#due + 1] = payload end
    bytes = bytes - #payload
  end
  if more then return {'0', due, '', huge} end
end
local following = redis.call('ZRANGEBYSCORE', seconds, '(' .. string.format('%.17g', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local wait = following[2] and string.format('%.6f', math.max(0, tonumber(following[2]) - t)) or ''
return {wait, due, '', huge}
