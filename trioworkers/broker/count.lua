-- How often each of these payloads lies in an in-progress list. Reads only.
-- KEYS    1 in-progress list
-- ARGV    payloads
-- result  {how often, …}
local result = {}
for i, payload in ipairs(ARGV) do result[i] = #redis.call('LPOS', KEYS[1], payload, 'COUNT', 0) end
return result
