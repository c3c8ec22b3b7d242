-- A page of an in-progress list, newest first; nothing of it if the list is just as long as expected. Reads only.
-- expected  how long it is if all is well, or -1
-- huge_bytes  '' or: what is larger is counted, and not read
-- result  {length, {payload, …}, how many of these were too large}
local length, start = redis.call('LLEN', list), tonumber(first)
if length == tonumber(expected) then return {length, {}, 0} end
local payloads = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
  return redis.call('LRANGE', list, start + offset, start + offset + count - 1)
end, 1)
local read, huge, most = payloads, 0, tonumber(huge_bytes)
if most then
  read = {}
  for _, payload in ipairs(payloads) do
    if #payload > most then huge = huge + 1 else read[#read + 1] = payload end
  end
end
return {length, read, huge}
