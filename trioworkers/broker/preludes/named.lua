-- Shared by the scripts that move what is too large to be read (a prelude, not a script of its own).
-- named_by(payload): the queue that it names among its first fields or its last ones; '' if it names none there that a job can be put on.
-- Before the first bracket inside and behind the last one there are only plain values, in which a quote is escaped: so what is found is a field, and the
-- job's own. Read are 4,096 bytes at both ends.
local function named_by(payload)
  local first, last = string.sub(payload, 1, 4096), string.sub(payload, -4096)
  local QUEUE = '"queue"%s*:%s*"([^"\\%c]+)"'
  local name = string.match(first, '^%s*{%s*' .. QUEUE) or string.match(first, '^%s*{[^%[{]-[,%s]' .. QUEUE)
    or string.match(last, '[,%s]' .. QUEUE .. '[^%]}]*}%s*$') or ''
  return string.sub(name, -11) == ':inprogress' and '' or name
end
