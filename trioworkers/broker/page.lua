-- A page of an in-progress list, newest first; nothing of it if the list is just as long as expected. Reads only.
-- KEYS    1 in-progress list
-- ARGV    1 how long we expect it to be, or -1  2 where to begin  3 how many at most  4 bytes after which to stop
-- result  {length, {payload, …}}
local length, start = redis.call('LLEN', KEYS[1]), tonumber(ARGV[2])
if length == tonumber(ARGV[1]) then return {length, {}} end
local payloads = in_pages(tonumber(ARGV[3]), tonumber(ARGV[4]), function(offset, count)
  return redis.call('LRANGE', KEYS[1], start + offset, start + offset + count - 1)
end)
return {length, payloads}
