-- Note that the list of a dead worker is empty: what lies there from now on is none of ours, until a worker of ours has that id again.
-- drained  lists of which that is known; strike  1: such a list leaves the registry as well, whatever lies there by now
-- is_shared  1 if other programs may have the worker's process id
-- result  1 if struck
if redis.call('EXISTS', lease) == 1 then return 0 end
if redis.call('SISMEMBER', drained, list) == 0 then
  if redis.call('EXISTS', list) == 1 then return 0 end
  let_list_go(own, holds, false)
  if is_shared == '1' then
    redis.call('SADD', drained, list)
    redis.call('EXPIRE', drained, 3600)
  end
end
if strike ~= '1' then return 0 end
redis.call('DEL', suspects) -- what it sent last stays known for a day: a late copy of something older must find nothing to do
return redis.call('HDEL', registry, list)
