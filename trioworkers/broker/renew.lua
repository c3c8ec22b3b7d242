-- Renew our lease, if we still have it.
-- result  1 if it is ours
if redis.call('GET', lease) ~= ours then return 0 end
return redis.call('PEXPIRE', lease, lease_ms)
