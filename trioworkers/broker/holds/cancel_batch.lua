-- A batch takes no more members, and says so. Those that wait and run are dealt with by whoever asked for it.
-- own  what all keys of ours begin with; id: of the batch
-- result  1, or 0 if there is no such batch, or it is over
local key = batch
local fields = redis.call('HMGET', key, 'state', 'fired_finished')
if not fields[1] or fields[2] then return 0 end
redis.call('HSET', key, 'cancelled', string.format('%.6f', now()), 'state', 'sealed', 'not_succeeded', 1)
look_whether_over(own, id)
return 1
