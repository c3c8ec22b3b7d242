-- Shared by the scripts that deal with resque-scheduler's delayed jobs (a prelude, not a script of its own).
-- scheduling(lock, …): which process holds its master lock; nil if none does. A lock of another type is no lock of it.
local function scheduling(...)
  for _, lock in ipairs({...}) do
    local holder = redis.pcall('GET', lock)
    if type(holder) == 'string' then return holder end
  end
end

