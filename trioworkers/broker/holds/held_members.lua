-- One step through the batches in which nothing has moved for a while: their members that have not ended; and of a batch that isn't over those that are dead, for others wait for their retry. Reads only.
-- batch_at, member_at  how many of these batches are through, and a cursor in the next one, with a d before it among those that are dead; untouched_s, limit
-- result  {batch_at and member_at of the next step, or -1; id of the batch, its score as text, jid, …}
local t = now()
local found = redis.call('ZRANGEBYSCORE', own .. 'batches', '-inf', t - tonumber(untouched_s), 'WITHSCORES', 'LIMIT', batch_at, 1)
local id, score = found[1], found[2]
if not id then return {-1, '0'} end
local is_dead, cursor = string.match(member_at, '^(d?)(%d+)$')
local key = batch_key(own, id)
local set = key .. (is_dead == 'd' and ':dead' or ':jids')
local result, following = {tonumber(batch_at), '0', id, score}, '0'
if redis.call('TYPE', set).ok == 'set' then
  local scanned = redis.call('SSCAN', set, cursor or '0', 'COUNT', limit)
  for _, jid in ipairs(scanned[2]) do
    -- An inner batch is no job; a jid that payloads may spell otherwise is taken for granted.
    if string.sub(jid, 1, 2) ~= 'B:' and string.find(jid, '^[%w_.:-]+$') then result[#result + 1] = jid end
  end
  following = scanned[1]
end
if following ~= '0' then
  result[2] = is_dead .. following
elseif is_dead ~= 'd' and not redis.pcall('HGET', key, 'fired_finished') and redis.pcall('EXISTS', key .. ':dead') == 1 then
  result[2] = 'd0'
else
  result[1] = result[1] + 1
end
return result
