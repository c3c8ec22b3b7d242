-- Put payloads back that were exported. In a set, what is there already stays as it is. A queue can't tell; so there each group
-- has a token, and is put back once. Who names a lock takes it, if it is free; if not it comes without, and admission decides when it is fetched.
-- queue_name  '' for a set
-- work        {{number of a payload, score, KEY or false, jid, when it is due or false, effects of its replacement, 1 if it waited in `next`}, …}, for a queue what is
--             to run first at the front
-- token       of this group, for a queue
-- result  {how many were added, jid of one whose lock another job has, jid of that, …}
local entries, keys, result = cmsgpack.unpack(work), {}, {0}
for _, e in ipairs(entries) do
  e[1] = ARGV[before_payloads + e[1]]
  if e[3] then keys[#keys + 1] = e[3] end
end
if queue_name ~= '' and redis.call('EXISTS', token) == 1 then return result end
if #keys > 0 then
  look('HLEN', own .. 'unique')
  look('ZCARD', own .. 'next')
  read_locks(own, keys)
end

-- Whether it waits for its turn as it did.
local function waits_again(e, lock)
  if e[7] ~= 1 or not lock or lock[1] == e[4] then return false end
  if next_payload(own, lock) then return lock[4][2] == e[4] end
  keep_next(own, lock, e[1], e[4], {queue_name, target, 'LPUSH', queues, false, false}, 1, e[6])
  changed_locks[e[3]] = true
  return true
end

local function lock_for(e)
  local lock, t = locks[e[3]], now()
  if not lock then
    set_lock(e[3], {e[4], t, t, false, e[5], e[6]})
  elseif lock[1] ~= e[4] then
    result[#result + 1], result[#result + 2] = e[4], lock[1]
  end
end

if queue_name ~= '' then redis.call('SADD', queues, queue_name) end -- first: what can fail shall fail before a job is there
for _, e in ipairs(entries) do
  local added = 1
  if queue_name == '' then
    added = redis.call('ZADD', target, 'NX', e[2], e[1])
  elseif not (e[3] and waits_again(e, locks[e[3]])) then
    redis.call('LPUSH', target, e[1])
  end
  if added == 1 and e[3] and not (e[7] == 1 and locks[e[3]] and locks[e[3]][4] and locks[e[3]][4][2] == e[4]) then lock_for(e) end
  result[1] = result[1] + added
end
if queue_name ~= '' then redis.call('SET', token, 1, 'EX', token_kept_s) end
write_locks(own)
return result
