-- A page of what the ends of members have others do: see graphs.lua.
-- result  how much of it is left
while at_once > 0 do
  local packed = redis.call('LINDEX', moving, 0)
  if not packed then break end
  local readable, list = pcall(cmsgpack.unpack, packed)
  redis.call('LPOP', moving)
  if readable and type(list) == 'table' then
    pcall(apply, own, list) -- what can't be done waits in `repairs`
    at_once = at_once - #list
  end
  at_once = at_once - 1
end
return redis.call('LLEN', moving)
