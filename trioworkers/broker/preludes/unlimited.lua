-- In place of queue_limit.lua, for queues without a limit (a prelude, not a script of its own).
local limit_name = ''

