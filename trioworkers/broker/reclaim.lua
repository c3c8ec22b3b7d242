-- Give payloads in the in-progress list of a worker that died back to the fetch end of their queue, and charge the jobs
-- with its death; those charged too often come with a payload for the dead set.
-- lease, list, holds  the dead worker's
-- expected_holder     '' for nobody; the lease's value when a worker takes its own list back
-- work                {{number of a payload, jid, deaths that it is charged with (-1: none, but it is suspected), number of the payload for the dead set or false, effects of that}, …}, newest first
-- payloads            as they are: each string that is unpacked here costs 2 ns a byte more
-- push                LPUSH or RPUSH; in_list: 1 if what is dead lies in a list
-- drained, is_shared  see drained.lua
-- result  {how many were moved, error or nothing}; -1 moved if the worker is alive after all, -2 if the list is not of its filling any more
local holder = redis.call('GET', lease) or ''
if holder ~= expected_holder then return {-1} end
local is_dead = holder == ''
if is_dead and is_watched(drained, list, is_shared) then
  return {redis.call('EXISTS', list) == 1 and -2 or 0} -- an empty one is nobody's: another worker took what we saw there
end
redis.call('LTRIM', list, 0, -1) -- changes nothing, but who began with it may go on when Redis is full
if not is_dead and is_late(last_call, holder, number) then return {0} end -- what lies there by now may run
local moved, charged = 0, {}
local held, within = held_by_job(holds)
local let, effects = {}, {}
-- The job has moved: nothing that is wrong with the counts may undo that. One that is no number begins anew.
local function count_crash(jid, times)
  if times < 0 then
    redis.pcall('HSETNX', crashes, jid, 0)
  elseif type(redis.pcall('HINCRBY', crashes, jid, times)) == 'table' then
    redis.pcall('HSET', crashes, jid, times)
  end
  redis.pcall('EXPIRE', crashes, 259200)
end
-- What was held goes with its jobs, in this very step; with the last one what no job is left for.
local function done(problem)
  pcall(let_go, own, holds, let)
  apply(own, effects)
  if redis.call('EXISTS', list) == 0 then
    let_list_go(own, holds, false)
    if is_dead and is_shared == '1' then note_drained(drained, list) end
  end
  return {moved, problem}
end
for _, entry in ipairs(cmsgpack.unpack(work)) do
  local at, jid, charge, buried, ends = unpack(entry)
  local payload = ARGV[before_payloads + at]
  buried = buried and ARGV[before_payloads + buried]
  if redis.call('LREM', list, 1, payload) == 1 then
    local ok, problem
    if buried then
      ok, problem = pcall(bury, dead, buried, in_list == '1')
    else
      ok, problem = pcall(redis.call, push, queue, payload)
    end
    if not ok then
      redis.call('LPUSH', list, payload)
      return done(words(problem))
    end
    moved = moved + 1
    local attempt = held[jid] and table.remove(held[jid])
    if attempt then let[#let + 1] = {attempt[1], attempt[2], buried and '' or jid} end
    for _, part in ipairs(within[jid] or {}) do let[#let + 1] = {part[1], part[2], ''} end
    within[jid] = nil
    for _, e in ipairs(ends) do effects[#effects + 1] = e end
    if buried then
      redis.pcall('HDEL', crashes, jid)
    elseif charge ~= 0 and not charged[jid] then -- identical payloads share a jid: one death is one charge
      charged[jid] = true
      count_crash(jid, charge)
    end
  end
end
return done()
