-- What in-progress lists that we didn't register hold just now, in brief. Reads only.
-- packed  {{queue, …}, …}: to which other queue each list could belong by its name
-- result  {'ours', 'other' (it belongs to another queue), '' (it is empty) or a word that changes when the list does, …}
local result = {}
for i, names in ipairs(cmsgpack.unpack(packed)) do
  local key, state = KEYS[before_lists + i], nil
  if redis.call('HEXISTS', registry, key) == 1 then state = 'ours' end
  for _, name in ipairs(names) do
    if redis.call('SISMEMBER', queues, name) == 1 then state = state or 'other' end
  end
  if not state then
    local length = redis.call('LLEN', key)
    state = length == 0 and '' or length .. ':' .. redis.sha1hex(redis.call('LINDEX', key, 0))
  end
  result[i] = state
end
return result
