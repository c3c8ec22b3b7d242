-- Remove from the processes who has no record any more, and those of ours that gave no sign of life for so long and whose record doesn't expire.
-- our_label  what stands in the record of every worker of ours
-- result  how many
local now_s, count = tonumber(redis.call('TIME')[1]), 0
for _, identity in ipairs(redis.call('SMEMBERS', processes)) do
  local key = record_prefix .. identity
  local record = redis.pcall('HMGET', key, 'info', 'beat')
  if not record.err then
    local info, beat = record[1], tonumber(record[2] or '') or 0
    local is_ours = info and string.find(info, our_label, 1, true)
    if not info or (is_ours and redis.call('PTTL', key) == -1 and now_s - beat > tonumber(stale_s)) then
      redis.call('SREM', processes, identity)
      if info then redis.call('DEL', key) end
      count = count + 1
    end
  end
end
return count
