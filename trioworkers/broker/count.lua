-- How often each of these payloads lies in an in-progress list. Reads only.
-- are_digests  1 if these are the digests of payloads
-- result  {how often, …}
local result, words = {}, {unpack(ARGV, before_payloads + 1)}
local counts = are_digests == '1' and by_digest(list, words)
for i, word in ipairs(words) do
  result[i] = counts and counts[word] or #redis.call('LPOS', list, word, 'COUNT', 0)
end
return result
