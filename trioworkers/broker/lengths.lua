-- How long each of these lists is; -1: it is no list.
local lengths = {}
for number, list in ipairs(KEYS) do
  local length = redis.pcall('LLEN', list)
  lengths[number] = type(length) == 'number' and length or -1
end
return lengths
