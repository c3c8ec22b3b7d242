-- Let a lock go as an operator wants it, whatever its job does; what was to follow that job goes to its queue.
-- result  jid of who had it, or '' if nobody did
read_locks(own, {key})
local spell = redis.pcall('GET', own .. 'throttle:' .. key)
if type(spell) == 'string' then redis.call('DEL', own .. 'throttle:' .. key) end
local lock = locks[key]
if not lock then
  local broken = redis.call('HDEL', unique, key) == 1 and '?'
  return broken or type(spell) == 'string' and spell or ''
end
local jid = lock[1]
apply(own, {{'unlock', key, jid}})
return jid
