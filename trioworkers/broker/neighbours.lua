-- The records of processes that are not ours. Reads only; a record that is no hash is passed over.
-- our_label  what stands in the record of every worker of ours
-- result  {seconds, {identity, info, quiet or '', beat or '', ms until the record expires, or -1: it doesn't}, …}
local result = {tonumber(redis.call('TIME')[1])}
for _, identity in ipairs(redis.call('SMEMBERS', processes)) do
  local key = record_prefix .. identity
  local record = redis.pcall('HMGET', key, 'info', 'quiet', 'beat')
  local info = not record.err and record[1]
  if info and not string.find(info, our_label, 1, true) then
    result[#result + 1] = {identity, info, record[2] or '', record[3] or '', redis.call('PTTL', key)}
  end
end
return result
