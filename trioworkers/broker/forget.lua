-- Strike the list of a worker that is long dead from the registry, if it is empty.
-- result  1 if struck
if redis.call('EXISTS', lease, list) > 0 then return 0 end
let_list_go(own, holds, false)
redis.call('DEL', quarantine, last_settle)
return redis.call('HDEL', registry, list)
