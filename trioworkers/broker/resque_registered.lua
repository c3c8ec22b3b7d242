-- The workers in Resque's registry that are not ours. Reads only; what is of the wrong type counts as not there.
-- our_tag  what our ids have and others don't
-- result  {seconds, {id, Ruby's heartbeat or '', node-resque's ping or '', something that changes with each job}, …}
local function text(...)
  local found = redis.pcall(...)
  return type(found) == 'string' and found or ''
end
local result = {tonumber(redis.call('TIME')[1])}
for _, id in ipairs(redis.call('SMEMBERS', workers)) do
  if not string.find(id, our_tag, 1, true) then
    local name = string.match(id, '^[^:]*:[^:]*')
    local ping = name and text('GET', worker_prefix .. 'ping:' .. name) or ''
    local job = string.sub(text('GET', worker_prefix .. id), 1, 200) -- since when it runs stands at the beginning
    result[#result + 1] = {id, text('HGET', heartbeats, id), ping, text('GET', processed_prefix .. id) .. ' ' .. job}
  end
end
return result
