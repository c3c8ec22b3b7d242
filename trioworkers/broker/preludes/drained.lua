-- Shared by the scripts that look after a dead worker's list (a prelude, not a script of its own). `drained` is the set of that worker's lists
-- from which all was taken. Where other programs may have its process id (`is_shared` is '1': people gave it), what lies there afterwards may be
-- theirs, for go-workers writes no lease. Or it was moved there late, by a wait of our dead worker that had hung in a broken connection. Nobody
-- ever takes that out; of another program's jobs one is done at some time. So what lies still for an hour is ours.
local WATCHED_S = 3600

local function note_drained(drained, list)
  redis.call('SADD', drained, list)
  redis.call('EXPIRE', drained, 2 * WATCHED_S)
end

local function is_known_drained(drained, list) return redis.call('SISMEMBER', drained, list) == 1 end

-- Whether what lies in a drained list is left alone: an hour long it is watched.
local function is_watched(drained, list, is_shared)
  return is_shared == '1' and is_known_drained(drained, list) and redis.call('PTTL', drained) > WATCHED_S * 1000
end

-- Whether another program has done a job that lay there at the last look: the oldest one has gone.
local function has_moved_on(drained, list)
  local oldest = redis.call('LINDEX', list, -1)
  local seen, found = list .. ' ' .. (oldest and redis.sha1hex(oldest) or ''), nil
  for _, note in ipairs(redis.call('SMEMBERS', drained)) do
    if note ~= list and string.sub(note, 1, #list + 1) == list .. ' ' then found = note end
  end
  if oldest and not found then redis.call('SADD', drained, seen) end
  return found and found ~= seen or false
end
