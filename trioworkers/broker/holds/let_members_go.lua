-- Members that are in no place any more end, if nothing of their batch has moved since.
-- work  {{id of a batch, its score as text, {jid, …}}, …}
-- result  how many that were
local gone = 0
for _, b in ipairs(cmsgpack.unpack(work)) do
  if redis.call('ZSCORE', own .. 'batches', b[1]) == b[2] then
    local ends = {}
    for _, jid in ipairs(b[3]) do
      local key = batch_key(own, b[1])
      if redis.call('SISMEMBER', key .. ':jids', jid) == 1 or redis.call('SISMEMBER', key .. ':dead', jid) == 1 then ends[#ends + 1] = {'member', b[1], jid, 'lost'} end
    end
    gone = gone + #ends
    apply(own, ends)
  end
end
return gone
