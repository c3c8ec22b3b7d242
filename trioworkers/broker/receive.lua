-- Send what jobs in another shard enqueued, each entry of its outbox once.
-- epoch      what that outbox's numbering is called; `received` keeps of each {number of the last entry, its id, when it came}
-- first      number of the first of the entries; before_id: id of the one before it
-- result  {number of the last entry that is here, its id, what keeps the next one from it or ''}; instead of that 'BEYOND' if what is here goes further than these entries, and
--         'DIVERGED' if the number that we know is of another entry. In both cases nothing was done: either the entries were read long ago, or the outbox was set back
local state = numbering(received, epoch, 'number', 'text')
first = tonumber(first)
local last, last_id = first - 1, before_id
if state then last, last_id = state[1], state[2] end
local function id_of(number)
  if number == first - 1 then return before_id end
  return string.sub(ARGV[before_entries + number - first + 1] or '', 1, 24)
end
if last > first + #ARGV - before_entries - 1 then return {last, last_id, 'BEYOND'} end
if last >= first - 1 and id_of(last) ~= last_id then return {last, last_id, 'DIVERGED'} end
local problem = ''
-- Whoever may write in that Redis has no word in this one but jobs: these go to queues and sets of scheduled jobs, and batches and locks lie where ours do.
local function ends_with(text, what) return type(text) == 'string' and string.sub(text, -#what) == what end
local function is_way(name, key, command, names)
  return ends_with(names, 'queues') and type(name) == 'string' and key == string.sub(names, 1, -2) .. ':' .. name and (command == 'LPUSH' or command == 'RPUSH')
end
local function is_payload(p)
  if type(p) ~= 'table' then return type(p) == 'string' end
  local way = p[9]
  return type(p[1]) == 'string' and (not way or type(way) == 'table' and is_way(way[1], way[2], way[3], way[4]))
end
local function all(list, is_right)
  if type(list) ~= 'table' then return false end
  for _, each in pairs(list) do
    if not is_right(each) then return false end
  end
  return true
end
local function is_push(p) return type(p) == 'table' and is_way(p[1], p[2], p[4], p[5]) and all(p[3], is_payload) end
local function is_later(l)
  if type(l) ~= 'table' or not is_payload(l[1]) then return false end
  local place = l[4]
  if type(place) ~= 'table' then return ends_with(place, 'schedule') end
  return ends_with(place[1], 'delayed_queue_schedule') and ends_with(place[2], 'delayed:') and ends_with(place[3], 'timestamps:')
end
local function is_successor(s) return type(s) == 'table' and is_payload(s[2]) and type(s[3]) == 'table' and is_way(s[3][1], s[3][2], s[3][3], s[3][4]) end
local function is_callback(c) return type(c) == 'table' and is_way(c[1], c[2], c[3], c[4]) end
local function is_text(text) return type(text) == 'string' end
local function is_op(op)
  return type(op) == 'table' and all(op[5], is_successor) and (op[6] == nil or all(op[6], is_text)) and (not op[3] or type(op[3]) == 'table' and all(op[3][3], is_callback))
end
local ours = string.sub(received, 1, -#'received' - 1)
local function is_entry(calls)
  return type(calls) == 'table' and all(calls[1], is_push) and all(calls[2], is_later) and (calls[3] == nil or calls[3] == ours) and (calls[4] == nil or all(calls[4], is_op))
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
return {last, last_id, problem}
