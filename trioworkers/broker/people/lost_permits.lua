-- Permits that no worker's record knows: whoever let go of them did so by halves, which none of our steps does. Reads only.
-- names   packed {LIMIT, …}; most: of each limit, so many are looked at
-- result  {LIMIT, how many, …}
local result = {}
for _, name in ipairs(cmsgpack.unpack(names)) do
  local lost = 0
  for _, member in ipairs(redis.call('SRANDMEMBER', own .. 'permits:' .. name, most)) do
    local record = string.match(member, '^(.*) [^ ]*$')
    if not record or redis.call('HEXISTS', own .. 'holds:' .. record, member) == 0 then lost = lost + 1 end
  end
  if lost > 0 then result[#result + 1], result[#result + 2] = name, lost end
end
return result
