-- A page of payloads for people, which ends with the first that makes it heavy: nobody knows what they weigh before they are read. Reads only.
-- how   'left' or 'right': a list, from that end; 'lowest' or 'highest': a sorted set by rank; 'score': from `score` on, without the first `start` of it
-- seen  with 'score': payloads that were read before, the last one first. The page begins after the first of them that still has this score
-- start, length  of the page; max_bytes: after so many it ends sooner
-- result  {payload, …}, of a set {payload, score, …}
local first, is_list = tonumber(start), how == 'left' or how == 'right'
local walk = is_list and math.min(first, redis.call('LLEN', place) - first) or 0
local scores, rank = {}, first
if how == 'score' then rank = first + redis.call('ZCOUNT', place, '-inf', '(' .. score) end
for i = before_seen + 1, #ARGV do
  if tonumber(redis.call('ZSCORE', place, ARGV[i]) or 'nan') == tonumber(score) then
    rank = redis.call('ZRANK', place, ARGV[i]) + 1
    break
  end
end
local function read(offset, count)
  local from = rank + offset
  local to = from + count - 1
  if how == 'left' then return redis.call('LRANGE', place, from, to) end
  if how == 'right' then
    local found, turned = redis.call('LRANGE', place, -to - 1, -from - 1), {}
    for i = 1, #found do turned[i] = found[#found + 1 - i] end
    return turned
  end
  local found =
    how == 'highest' and redis.call('ZRANGE', place, from, to, 'REV', 'WITHSCORES') or redis.call('ZRANGE', place, from, to, 'WITHSCORES')
  scores[#scores + 1] = found[2]
  return {found[1]}
end
-- Whatever they weigh, they are read one by one in a set, and near the ends of a list; to walk further in costs more.
local page = in_pages(tonumber(length), tonumber(max_bytes), read, walk < 20000 and 1 or walk < 100000 and 4 or 16)
if is_list then return page end
local result = {}
for i, payload in ipairs(page) do
  result[#result + 1] = payload
  result[#result + 1] = scores[i]
end
return result
