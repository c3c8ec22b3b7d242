-- Which payloads of a page of a list or a sorted set hold a text. Reads only; saves sending a hundred thousand payloads to find one, and ends with the first
-- huge one: to look through 50 MB takes a tenth of a second.
-- kind    'list' or 'set'
-- start   an index, or a set's cursor; length  of the page; max_bytes: after so many it ends sooner
-- odd     '1': those in which no jid is spelled as nearly all spell it, whatever the text is
-- result  {where the next page begins or -1, payload, its score if it lies in a set, …}
local result, at_most, most = {-1}, tonumber(length), tonumber(max_bytes)
local there = redis.pcall(kind == 'list' and 'LLEN' or 'ZCARD', place)
if type(there) == 'table' then
  if string.find(there['err'], 'WRONGTYPE', 1, true) then return result end -- no job lies there; those elsewhere are found all the same
  return there
end
local function is_meant(payload)
  if odd ~= '1' then return string.find(payload, text, 1, true) end
  local first, last = string.find(payload, '"jid"%s*:%s*"[^"\\]+"')
  return not first or last - first > 250
end
local function look(payload, score)
  if not is_meant(payload) then return end
  result[#result + 1] = payload
  result[#result + 1] = score
end
if kind == 'list' then
  -- Whatever they weigh, they are read one by one near the ends; to walk further in costs more.
  local first, size = tonumber(start), there
  local walk = math.min(first, size - first)
  local page, more = in_pages(at_most, most, function(offset, count)
    return redis.call('LRANGE', place, first + offset, first + offset + count - 1)
  end, walk < 20000 and 1 or walk < 100000 and 4 or 16)
  for _, payload in ipairs(page) do look(payload) end
  if more then result[1] = first + #page end
else
  local following = scan(place, start, at_most, most, look)
  if following ~= '0' then result[1] = following end
end
return result
