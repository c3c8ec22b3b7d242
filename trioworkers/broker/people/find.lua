-- Which payloads of a page of a list hold a text. Reads only; saves sending a hundred thousand payloads to find one.
-- KEYS    1 list
-- ARGV    1 where the page begins  2 its length  3 the text
-- result  {how many payloads the page had, payload, …}
local page = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
local result = {#page}
for _, payload in ipairs(page) do
  if string.find(payload, ARGV[3], 1, true) then result[#result + 1] = payload end
end
return result
