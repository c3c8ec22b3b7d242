-- Before and after the commands that move large payloads from a queue into our in-progress list, in one MULTI: Lua would copy each of them, and more than once.
-- Redis answers none of it. What happened is left in `mark`, which ends when our lease would have ended: as long as it is there nobody else was at our list.
-- step       'before' or 'after'
-- number     of this fetch, as nobody else's; max_bytes: if they weigh more they are put back, for there may be one among them that is fetched alone, or that nobody may read
-- mark       'before': number, length of the list, what it weighed, or '-' if we may fetch nothing. 'after': number, how many were moved, 1 or 2 if somebody is
--            suspected, or a batch cancelled, and the length; or number, '-' and how many of them still lie there although all were to be put back
local PUT_BACK_BYTES = 8000000

-- What the list weighs, without reading it; nil where Redis doesn't tell.
local function weight()
  local bytes = redis.pcall('MEMORY', 'USAGE', list, 'SAMPLES', '0')
  if type(bytes) == 'table' then return nil end
  return bytes or 0
end

if step == 'before' then
  local left_ms = redis.call('GET', lease) == ours and redis.call('PTTL', lease) or 0
  local length = redis.call('LLEN', list)
  local weighs = left_ms > 0 and weight() or '-'
  redis.call('SET', mark, table.concat({number, length, weighs}, ' '), 'PX', left_ms > 0 and left_ms or 1000)
else
  local its, length, weighed = string.match(redis.call('GET', mark) or '', '^(%S+) (%d+) (%S+)$')
  if its ~= number then return end -- the first step failed, and so did the commands: for the same reason
  local now = redis.call('LLEN', list)
  local moved, weighs = now - tonumber(length), weighed ~= '-' and weight()
  if weighs and weighs - tonumber(weighed) <= tonumber(max_bytes) then
    local suspects = redis.call('EXISTS', crashes, cancelled)
    redis.call('SET', mark, table.concat({number, moved, suspects, now}, ' '), 'KEEPTTL')
    return
  end
  local size = 0
  while moved > 0 and size < PUT_BACK_BYTES do -- what is left then is found by the audit, page by page
    size = size + #redis.call('LMOVE', list, queue, 'LEFT', fetch_end)
    moved = moved - 1
  end
  redis.call('SET', mark, table.concat({number, '-', moved}, ' '), 'KEEPTTL')
end
