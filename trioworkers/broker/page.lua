-- A page of an in-progress list, newest first; nothing of it if the list is just as long as expected. Reads only.
-- expected  how long it is if all is well, or -1
-- result  {length, {payload, …}}
local length, start = redis.call('LLEN', list), tonumber(first)
if length == tonumber(expected) then return {length, {}} end
local payloads = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
  return redis.call('LRANGE', list, start + offset, start + offset + count - 1)
end)
return {length, payloads}
