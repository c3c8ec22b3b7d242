-- Have a go-workers2 process's record say less of what it runs; one that says nothing any more goes, as its fellows would remove it.
-- heartbeats_after  '' if nothing is left
-- result  1 if done; 0 if the record has changed meanwhile
if redis.call('HGET', record, 'worker_heartbeats') ~= heartbeats_before then return 0 end
if heartbeats_after ~= '' then
  redis.call('HSET', record, 'worker_heartbeats', heartbeats_after)
else
  redis.call('SREM', processes, identity)
  redis.call('DEL', record)
end
return 1
