-- Put the jobs of one or more calls into their queues, or where they wait for their time. A call that fails leaves the others alone.
-- token    of this call, if it has one: a key that isn't used may not be named either, an ACL could forbid it
-- until_s  with a token: until when this call may be carried out, in epoch seconds; and for no longer than the token would be known
-- calls    of each, packed, {push, later}: see send.lua; of one with unique jobs {push, later, own}: see unique.lua; with members of batches {push, later, own, ops}: see batches.lua;
--          both of which this script is only given for those
-- result  for each call '', its error, or {number of a unique job that was not alone, jid of who was there, …}; the same if this very call was executed before and only its reply was lost;
--         an error if all failed, or LATE with our time if the call came after its time: then nothing was done
local token = KEYS[before_token + 1]
if token then
  local known = redis.call('GET', token)
  if known then
    local is_ours, answer = pcall(cmsgpack.unpack, known)
    if is_ours and type(answer) == 'table' then return answer end
    return redis.error_reply('ERR ' .. token .. ' holds no answer of ours')
  end
  local t, until_when = now(), tonumber(until_s)
  -- A copy of a call whose token is forgotten; or one by a clock that is so far ahead that such a copy would pass.
  if t > until_when or until_when > t + 90 then return redis.error_reply('LATE ' .. string.format('%.3f', t)) end
end
local result, failed = {}, 0
for number = before_calls + 1, #ARGV do
  local push, later, own, ops = unpack(cmsgpack.unpack(ARGV[number]))
  local ok, answer = true, {}
  if ops then ok, answer = pcall(look_at_batches, own, ops) end
  if ok and own then ok, answer = pcall(take_locks, own, push, later, nil, ops) end
  local is_duplicate = not ok and string.match(words(answer), '^DUPLICATE ')
  if ok then
    local problem
    ok, problem = pcall(send, push, later)
    if not ok then answer = problem elseif ops then add_to_batches(own, ops) end
  end
  result[#result + 1] = not ok and words(answer) or #answer > 0 and answer or ''
  if not ok and not is_duplicate then failed = failed + 1 end
end
if failed == #result then return redis.error_reply(result[1]) end
if token then redis.call('SET', token, cmsgpack.pack(result), 'EX', 120) end
return result
