-- Which payloads of a page of a list hold a text. Reads only; saves sending a hundred thousand payloads to find one.
-- start, length  of the page; max_bytes: after so many it ends sooner
-- result  {how many payloads the page had, 1 if there may be more after it, payload, …}
local page, more = in_pages(tonumber(length), tonumber(max_bytes), function(offset, count)
  return redis.call('LRANGE', list, start + offset, start + offset + count - 1)
end)
local result = {#page, more and 1 or 0}
for _, payload in ipairs(page) do
  if string.find(payload, text, 1, true) then result[#result + 1] = payload end
end
return result
