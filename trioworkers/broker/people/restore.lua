-- Put payloads back that were exported. In a set, what is there already stays as it is. A queue can't tell; so there each group
-- has a token, and is put back once.
-- KEYS    1 the set or queue  2 queues  3 token of this group, for a queue
-- ARGV    1 name of the queue, or '' for a set  2 msgpack {{payload, score}, …}, for a queue what is to run first at the front
--         3 seconds that the token is kept
-- result  how many were added
local entries, added = cmsgpack.unpack(ARGV[2]), 0
if ARGV[1] == '' then
  for _, entry in ipairs(entries) do added = added + redis.call('ZADD', KEYS[1], 'NX', entry[2], entry[1]) end
  return added
end
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('SADD', KEYS[2], ARGV[1]) -- first: what can fail shall fail before a job is there
for _, entry in ipairs(entries) do redis.call('LPUSH', KEYS[1], entry[1]) end
redis.call('SET', KEYS[3], 1, 'EX', ARGV[3])
return #entries
