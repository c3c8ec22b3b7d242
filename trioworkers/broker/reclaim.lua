-- Give payloads in the in-progress list of a worker that died back to the fetch end of their queue, and charge the jobs
-- with its death; those charged too often come with a payload for the dead set.
-- KEYS    1 the dead worker's lease  2 its in-progress list  3 queue  4 crash counts  5 dead  6 what its attempts held
-- ARGV    1 who may hold that lease ('' for nobody; the lease's value when a worker takes its own list back)
--         2 msgpack {{payload, jid, charged 0|1, payload for the dead set or false, effects of that}, …}, newest first
--         3 LPUSH or RPUSH  4 1 if what is dead lies in a list  5 what our keys begin with
-- result  {how many were moved, error or nothing}; -1 moved if the worker is alive after all
local holder = redis.call('GET', KEYS[1]) or ''
if holder ~= ARGV[1] then return {-1} end
local moved, charged = 0, {}
local held = held_by_job(KEYS[6])
local let, effects = {}, {}
-- What was held goes with its jobs, in this very step; with the last one what no job is left for.
local function done(problem)
  pcall(let_go, ARGV[5], KEYS[6], let)
  apply(ARGV[5], effects)
  if redis.call('EXISTS', KEYS[2]) == 0 then let_list_go(ARGV[5], KEYS[6], false) end
  return {moved, problem}
end
for _, entry in ipairs(cmsgpack.unpack(ARGV[2])) do
  local payload, jid, charge, buried, ends = unpack(entry)
  if redis.call('LREM', KEYS[2], 1, payload) == 1 then
    local ok, problem
    if buried then
      ok, problem = pcall(bury, KEYS[5], buried, ARGV[4] == '1')
    else
      ok, problem = pcall(redis.call, ARGV[3], KEYS[3], payload)
    end
    if not ok then
      redis.call('LPUSH', KEYS[2], payload)
      return done(words(problem))
    end
    moved = moved + 1
    local attempt = held[jid] and table.remove(held[jid])
    if attempt then let[#let + 1] = {attempt[1], attempt[2], buried and '' or jid} end
    if buried then
      for _, e in ipairs(ends) do effects[#effects + 1] = e end
      redis.call('HDEL', KEYS[4], jid)
    elseif charge == 1 and not charged[jid] then -- identical payloads share a jid: one death is one charge
      charged[jid] = true
      redis.call('HINCRBY', KEYS[4], jid, 1)
      redis.call('EXPIRE', KEYS[4], 259200)
    end
  end
end
return done()
