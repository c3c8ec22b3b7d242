-- Which payloads of a page of a list hold a text. Reads only; saves sending a hundred thousand payloads to find one.
-- start, length  of the page
-- result  {how many payloads the page had, payload, …}
local page = redis.call('LRANGE', list, start, start + length - 1)
local result = {#page}
for _, payload in ipairs(page) do
  if string.find(payload, text, 1, true) then result[#result + 1] = payload end
end
return result
