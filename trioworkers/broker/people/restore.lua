-- Put payloads back that were exported. In a set, what is there already stays as it is. A queue can't tell; so there each group
-- has a token, and is put back once.
-- queue_name  '' for a set
-- work        {{payload, score}, …}, for a queue what is to run first at the front
-- token       of this group, for a queue
-- result  how many were added
local entries, added = cmsgpack.unpack(work), 0
if queue_name == '' then
  for _, entry in ipairs(entries) do added = added + redis.call('ZADD', target, 'NX', entry[2], entry[1]) end
  return added
end
if redis.call('EXISTS', token) == 1 then return 0 end
redis.call('SADD', queues, queue_name) -- first: what can fail shall fail before a job is there
for _, entry in ipairs(entries) do redis.call('LPUSH', target, entry[1]) end
redis.call('SET', token, 1, 'EX', token_kept_s)
return #entries
