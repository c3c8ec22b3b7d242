-- Have a go-workers2 process's record say less of what it runs. One that says nothing any more stays, too: its fellows read it, and remove it when it is old.
-- result  1 if done; 0 if the record has changed meanwhile
if redis.call('HGET', record, 'worker_heartbeats') ~= heartbeats_before then return 0 end
redis.call('HSET', record, 'worker_heartbeats', heartbeats_after)
return 1
