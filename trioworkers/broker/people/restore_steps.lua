-- Put back what steps of a job returned. Its job lets go of them when it ends, as ever; but it may have ended already, when a file is imported twice: so they
-- go by themselves, too, unless the job records more.
-- pairs  name, result, …
local is_new = redis.call('EXISTS', steps) == 0
for i = before_pairs + 1, #ARGV, 2 do redis.call('HSETNX', steps, ARGV[i], ARGV[i + 1]) end
if is_new then redis.call('EXPIRE', steps, stays_s) end
return redis.status_reply('OK')
