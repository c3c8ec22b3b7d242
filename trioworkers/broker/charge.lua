-- Charge jobs with the end of the worker that ran them, as that may have been their doing.
-- jids     may be repeated; identical payloads share one, and one end is one charge
-- keep_s   for how long a crash count is remembered
-- times    how often it counts
-- result   nothing
local charged = {}
for i = before_jids + 1, #ARGV do
  if not charged[ARGV[i]] then
    charged[ARGV[i]] = true
    redis.call('HINCRBY', crashes, ARGV[i], times)
  end
end
redis.call('EXPIRE', crashes, keep_s)
