-- How often each of these payloads lies in an in-progress list. Reads only.
-- result  {how often, …}
local result = {}
for i, payload in ipairs(ARGV) do result[i] = #redis.call('LPOS', list, payload, 'COUNT', 0) end
return result
