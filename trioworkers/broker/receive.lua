-- Send what jobs in another shard enqueued, each entry of its outbox once.
-- epoch      what that outbox's numbering is called; `received` keeps of each {number of the last entry, its id, when it came}
-- first      number of the first of the entries; before_id: id of the one before it
-- result  {number of the last entry that is here, what keeps the next one from it or ''}; instead of that 'BEYOND' if what is here goes further than these entries, and
--         'DIVERGED' if the number that we know is of another entry: the outbox was set back. In both cases nothing was done
local state = numbering(received, epoch, 'number', 'text')
first = tonumber(first)
local last, last_id = first - 1, before_id
if state then last, last_id = state[1], state[2] end
local function id_of(number)
  if number == first - 1 then return before_id end
  return string.sub(ARGV[before_entries + number - first + 1] or '', 1, 24)
end
if last > first + #ARGV - before_entries - 1 then return {last, 'BEYOND'} end
if last >= first - 1 and id_of(last) ~= last_id then return {last, 'DIVERGED'} end
local problem = ''
local function is_entry(calls)
  if type(calls) ~= 'table' or type(calls[1]) ~= 'table' or type(calls[2]) ~= 'table' then return false end
  for _, p in ipairs(calls[1]) do -- whoever may write in that Redis has no word in this one but jobs
    if type(p) ~= 'table' or p[4] ~= 'LPUSH' and p[4] ~= 'RPUSH' then return false end
  end
  return true
end
for number = math.max(first, last + 1), first + #ARGV - before_entries - 1 do
  local entry = ARGV[before_entries + number - first + 1]
  local ok, answer = pcall(cmsgpack.unpack, string.sub(entry, 25))
  if not ok or not is_entry(answer) then
    problem = 'entry ' .. number .. ' is no entry of an outbox'
    break
  end
  local push, later, own, ops = unpack(answer)
  if ops then ok, answer = pcall(look_at_batches, own, ops) end
  if ok and own then ok, answer = pcall(take_locks, own, push, later, nil, ops) end
  if ok then
    ok, answer = pcall(send, push, later)
    if ok and ops then add_to_batches(own, ops) end
  end
  if not ok and not string.match(words(answer), '^DUPLICATE ') then
    problem = words(answer)
    break
  end
  last, last_id = number, string.sub(entry, 1, 24)
end
if last >= first then redis.call('HSET', received, epoch, cmsgpack.pack({last, last_id, now()})) end
return {last, problem}
