-- Count how jobs of each class ended and how long they took, where Sidekiq's metrics page looks. Not twice after a lost reply,
-- and rather not at all than twice.
-- KEYS    1 our last report  2, 3 this minute's hashes  4 the hash of these ten minutes  5, 6 histograms of the first class, …
-- ARGV    1 this report's token  2 msgpack {{field, increment, …}, {{bucket, increment, …} for each class}}
-- result  0|1: counted now
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', 600)
local fields, histograms = unpack(cmsgpack.unpack(ARGV[2]))
for i, kept_s in ipairs({28800, 28800, 259200}) do
  local key = KEYS[i + 1]
  for f = 1, #fields, 2 do redis.call('HINCRBY', key, fields[f], fields[f + 1]) end
  redis.call('EXPIRE', key, kept_s)
end
for i, buckets in ipairs(histograms) do
  local increments = {}
  for b = 1, #buckets, 2 do
    for _, word in ipairs({'INCRBY', 'u16', '#' .. buckets[b], buckets[b + 1]}) do increments[#increments + 1] = word end
  end
  for key = 3 + 2 * i, 4 + 2 * i do
    if #increments > 0 then
      redis.call('BITFIELD', KEYS[key], 'OVERFLOW', 'SAT', unpack(increments))
      redis.call('EXPIRE', KEYS[key], 28800)
    end
  end
end
return 1
