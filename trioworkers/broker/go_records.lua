-- What go-workers2's processes say of their in-progress lists. Reads only; a record that is no hash is passed over.
-- result  {{identity, worker_heartbeats}, …}
local result = {}
for _, identity in ipairs(redis.call('SMEMBERS', processes)) do
  local heartbeats = redis.pcall('HGET', record_prefix .. identity, 'worker_heartbeats')
  if type(heartbeats) == 'string' then result[#result + 1] = {identity, heartbeats} end
end
return result
