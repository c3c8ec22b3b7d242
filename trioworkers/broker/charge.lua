-- Charge jobs with the end of the worker that ran them, as that may have been their doing. Once, and only as long as its lease lasts: after that it is
-- for those who take over what it had. They find that noted among its suspects, and charge nobody with this end.
-- jids     may be repeated; identical payloads share one, and one end is one charge
-- keep_s   for how long a crash count is remembered
-- times    how often it counts
-- result   nothing
if redis.call('GET', lease) ~= ours or redis.pcall('HGET', suspects, 'charged') == 'charged' then return end
local charged = {}
for i = before_jids + 1, #ARGV do
  if not charged[ARGV[i]] then
    charged[ARGV[i]] = true
    redis.call('HINCRBY', crashes, ARGV[i], times)
  end
end
redis.call('EXPIRE', crashes, keep_s)
redis.pcall('HSET', suspects, 'charged', 'charged') -- a job of that name has another value there
