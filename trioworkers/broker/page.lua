-- A page of an in-progress list, newest first; nothing of it if the list is just as long as expected. Reads only.
-- expected  how long it is if all is well, or -1
-- max_bytes  so much is read; sent_bytes: so much of it is sent, and one payload at the least
-- huge_bytes  '' or: what is larger is counted, and not read
-- digest_bytes  0, or: what is not larger isn't sent, but told by its digest
-- result  {length, {payload or {digest}, …}, how many of these were too large}
local length, start = redis.call('LLEN', list), tonumber(first)
if length == tonumber(expected) then return {length, {}, 0} end
local payloads = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
  return redis.call('LRANGE', list, start + offset, start + offset + count - 1)
end, 1)
local most, known = tonumber(huge_bytes), tonumber(digest_bytes)
if not most and known == 0 then return {length, payloads, 0} end
local read, huge, sent = {}, 0, 0
for _, payload in ipairs(payloads) do
  if most and #payload > most then
    huge = huge + 1
  elseif #payload <= known then
    read[#read + 1] = {digest_of(payload)}
  else
    if sent >= tonumber(sent_bytes) then break end
    read[#read + 1], sent = payload, sent + #payload
  end
end
return {length, read, huge}
