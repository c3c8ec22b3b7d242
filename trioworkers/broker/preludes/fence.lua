-- Shared by the scripts that settle (a prelude, not a script of its own).
-- fence(lease, last_settle, ours, number): nothing if this group is to be written now; else what to answer: an error, or the result that it had when it was written.
local function fence(lease, last_settle, ours, number)
  local holder, previous = unpack(redis.call('MGET', lease, last_settle))
  if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
  local known, last = pcall(cmsgpack.unpack, previous or '')
  if known and type(last) == 'table' and type(last[2]) == 'number' then -- else nobody can say what came before
    if last[1] == ours then
      if last[2] == number then return last[3] end
      if last[2] > number then return redis.error_reply('LATE') end
    elseif not holder then -- sent in a life that is over
      return redis.error_reply('SUPERSEDED ' .. tostring(last[1]))
    end
  end
end

local function count_up(in_all, that_day, n)
  if n == 0 then return end
  redis.pcall('INCRBY', in_all, n)
  if redis.pcall('INCRBY', that_day, n) == n then redis.call('EXPIRE', that_day, 157680000) end
end

