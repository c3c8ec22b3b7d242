-- One step of a look at all places, for the search for what others deleted. Reads only.
-- kind  'list' or 'set': what lies at `place`; at: where this step begins: an index from the end where jobs are pushed, or a cursor
-- result  {where the next step begins, -1 if this was the last one, KEY of a lock whose job lies here, or 'member BATCH JID', …}
local OVERLAP = 100 -- who takes jobs out of the middle of a list meanwhile moves up those that this look has yet to come to
local begin, payloads, following = tonumber(at), {}, -1
local found_kind = redis.call('TYPE', place).ok
if found_kind ~= (kind == 'list' and 'list' or 'zset') then return {-1} end -- no job lies in what is no place
-- A jid that may be spelled otherwise there is taken for granted.
local function has_jid(payload, jid)
  if not string.find(jid, '^[%w_.:-]+$') then return true end
  return string.find(payload, string.find(jid, '^%d+$') and jid or '"' .. jid .. '"', 1, true)
end
if kind == 'list' then
  local more
  payloads, more = in_pages(tonumber(limit), tonumber(max_bytes), function(offset, count)
    return redis.call('LRANGE', place, begin + offset, begin + offset + count - 1)
  end, 4)
  if more then following = begin + math.max(1, #payloads - OVERLAP) end
else
  local cursor = scan(place, begin, tonumber(limit), tonumber(max_bytes), function(payload) payloads[#payloads + 1] = payload end)
  following = cursor == '0' and -1 or cursor
end
local named, keys, result, told = {}, {}, {following}, {}
for i, payload in ipairs(payloads) do
  named[i] = named_lock(payload)
  if named[i] then keys[#keys + 1] = named[i] end
end
read_locks(own, keys)
for i, payload in ipairs(payloads) do
  local lock = named[i] and locks[named[i]]
  if lock and not told[named[i]] and has_jid(payload, lock[1]) then
    told[named[i]] = true
    result[#result + 1] = named[i]
  end
end
for _, payload in ipairs(payloads) do
  local batch = named_batch(payload)
  if batch then -- what stands in its arguments may look like its jid: then a member is taken for seen that isn't
    for jid in string.gmatch(payload, '"jid"%s*:%s*"([%w_.:-]+)"') do result[#result + 1] = 'member ' .. batch .. ' ' .. jid end
  end
end
return result
