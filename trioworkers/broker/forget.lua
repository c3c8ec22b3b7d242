-- Note that the list of a dead worker is empty: what lies there from now on may be none of ours, until a worker of ours has that id again.
-- drained, is_shared  see drained.lua
-- strike  1: such a list leaves the registry as well, as soon as nothing can come there late, or another program has it
-- result  1 if struck
if redis.call('EXISTS', lease) == 1 then return 0 end
if not is_known_drained(drained, list) then
  if redis.call('EXISTS', list) == 1 then return 0 end
  let_list_go(own, holds, false)
  if is_shared == '1' then
    note_drained(drained, list)
    return 0
  end
elseif not has_moved_on(drained, list) and (is_watched(drained, list, is_shared) or redis.call('EXISTS', list) == 1) then
  return 0
end
if strike ~= '1' then return 0 end
redis.call('DEL', suspects) -- what it sent last stays known for a day: a late copy of something older must find nothing to do
return redis.call('HDEL', registry, list)
