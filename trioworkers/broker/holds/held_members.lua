-- One step through the batches in which nothing has moved for a while: their members that have not ended. Reads only.
-- batch_at, member_at  how many of these batches are through, and a cursor in the next one; untouched_s, limit
-- result  {batch_at and member_at of the next step, or -1; id of the batch, its score as text, jid, …}
local t = now()
local found = redis.call('ZRANGEBYSCORE', own .. 'batches', '-inf', t - tonumber(untouched_s), 'WITHSCORES', 'LIMIT', batch_at, 1)
local id, score = found[1], found[2]
if not id then return {-1, '0'} end
local key = batch_key(own, id) .. ':jids'
local result = {tonumber(batch_at), '0', id, score}
if redis.call('TYPE', key).ok == 'set' then
  local scanned = redis.call('SSCAN', key, member_at, 'COUNT', limit)
  for _, jid in ipairs(scanned[2]) do
    -- An inner batch is no job; a jid that payloads may spell otherwise is taken for granted.
    if string.sub(jid, 1, 2) ~= 'B:' and string.find(jid, '^[%w_.:-]+$') then result[#result + 1] = jid end
  end
  result[2] = scanned[1]
end
if result[2] == '0' then result[1] = result[1] + 1 end
return result
