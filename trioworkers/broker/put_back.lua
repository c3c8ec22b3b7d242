-- Put strays (in our in-progress list, but not running) back to the fetch end of their queue. No job is charged.
-- push             LPUSH or RPUSH
-- running_members  {{member, jid, {limit, …} or nothing, 1 if within a slot}, …} of the attempts that do run: they have that, whatever the record says; what others
--                  hold by it is let go, for their jobs
-- are_digests      1 if the payloads are told by their digests
-- payloads         newest first
-- result  how many were moved; nothing if that was done before, or something newer
local holder = redis.call('GET', lease)
if holder and holder ~= ours then return redis.error_reply('SUPERSEDED ' .. holder) end
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
if is_late(last_call, ours, number) then return nil end -- what lies there by now may run
local moved, there, known = 0, {}, nil
if are_digests == '1' then known = select(2, by_digest(list, {unpack(ARGV, before_payloads + 1)})) end
for i = before_payloads + 1, #ARGV do
  local payload = ARGV[i]
  if known then payload = known[payload] end
  if payload and redis.call('LREM', list, 1, payload) == 1 then
    redis.call(push, queue, payload)
    moved = moved + 1
    there[moved] = payload
  end
end
touch_named(own, there)
local running = {}
for _, r in ipairs(cmsgpack.unpack(running_members)) do running[r[1]] = r end
let_list_go(own, holds, true, running)
pcall(hold_on, own, holds, running)
return moved
