-- Shared by the scripts that move payloads one by one (a prelude, not a script of its own).
-- moved(write, …): have a payload written to its next place; true if that took it, and only then it may be taken from where it was.
-- result: {how many were moved, error, …}
local result = {0}
local function moved(write, ...)
  local ok, problem = pcall(write, ...)
  if ok then result[1] = result[1] + 1 else result[#result + 1] = words(problem) end
  return ok
end

