-- Remove from the processes who has no record any more, and those that gave no sign of life for so long, whose record doesn't expire and who hold nothing.
-- A record isn't deleted but left to expire: go-workers2 reads the processes first and then each one's record, and beats no more if one is missing.
-- our_label  what stands in the record of every worker of ours
-- stale_s, others_stale_s  after how long ours are dead, and go-workers2's, whose clock is another
-- result  how many
local now_s, count = tonumber(redis.call('TIME')[1]), 0
for _, identity in ipairs(redis.call('SMEMBERS', processes)) do
  local key = record_prefix .. identity
  local record = redis.pcall('HMGET', key, 'info', 'beat', 'worker_heartbeats')
  if not record.err then
    local info, beat = record[1], tonumber(record[2] or '') or 0
    local is_ours = info and string.find(info, our_label, 1, true)
    local is_old = now_s - beat > tonumber(is_ours and stale_s or others_stale_s)
    if not info or ((is_ours or record[3] == '[]') and is_old and redis.call('PTTL', key) == -1) then
      redis.call('SREM', processes, identity)
      redis.call('EXPIRE', key, 60)
      count = count + 1
    end
  end
end
return count
