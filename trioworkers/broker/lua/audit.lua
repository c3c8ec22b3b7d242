-- What lies in our in-progress list, unless it is just as long as expected. Reads only.
-- KEYS    1 in-progress list
-- ARGV    1 how long we expect it to be  2 how many to return at most
-- result  {length, payload, …}
local length = redis.call('LLEN', KEYS[1])
if length == tonumber(ARGV[1]) then return {length} end
local result = redis.call('LRANGE', KEYS[1], 0, ARGV[2] - 1)
table.insert(result, 1, length)
return result
