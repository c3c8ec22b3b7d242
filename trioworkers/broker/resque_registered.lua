-- The workers in Resque's registry that are not ours. Reads only; what is of the wrong type counts as not there.
-- KEYS    1 workers  2 heartbeats  3 what comes before a worker's id in the key of its job  4 …in the key of what it processed
-- ARGV    1 what our ids have and others don't
-- result  {seconds, {id, Ruby's heartbeat or '', node-resque's ping or '', something that changes with each job}, …}
local function text(...)
  local found = redis.pcall(...)
  return type(found) == 'string' and found or ''
end
local result = {tonumber(redis.call('TIME')[1])}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not string.find(id, ARGV[1], 1, true) then
    local name = string.match(id, '^[^:]*:[^:]*')
    local ping = name and text('GET', KEYS[3] .. 'ping:' .. name) or ''
    local job = string.sub(text('GET', KEYS[3] .. id), 1, 200) -- since when it runs stands at the beginning
    result[#result + 1] = {id, text('HGET', KEYS[2], id), ping, text('GET', KEYS[4] .. id) .. ' ' .. job}
  end
end
return result
