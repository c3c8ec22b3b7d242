-- Count how jobs of each class ended and how long they took, where Sidekiq's metrics page looks. Not twice after a lost reply,
-- and rather not at all than twice.
-- histogram_keys  two for each class, of Sidekiq 7 and of 8
-- work            {{field, increment, …}, {{bucket, increment, …} for each class}}
-- result  0|1: counted now
if is_late(last_report, ours, number) then return 0 end
local fields, histograms = unpack(cmsgpack.unpack(work))
for _, hash in ipairs({{minute_of_7, 28800}, {minute_of_8, 28800}, {ten_minutes, 259200}}) do
  local key, kept_s = unpack(hash)
  for f = 1, #fields, 2 do redis.call('HINCRBY', key, fields[f], fields[f + 1]) end
  redis.call('EXPIRE', key, kept_s)
end
for i, buckets in ipairs(histograms) do
  local increments = {}
  for b = 1, #buckets, 2 do
    for _, word in ipairs({'INCRBY', 'u16', '#' .. buckets[b], buckets[b + 1]}) do increments[#increments + 1] = word end
  end
  for key = before_histogram_keys + 2 * i - 1, before_histogram_keys + 2 * i do
    if #increments > 0 then
      redis.call('BITFIELD', KEYS[key], 'OVERFLOW', 'SAT', unpack(increments))
      redis.call('EXPIRE', KEYS[key], 28800)
    end
  end
end
return 1
