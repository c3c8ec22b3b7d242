-- Shared by the scripts by which runs of periodic jobs begin and end (a prelude, not a script of its own; after send.lua).
-- runs:ENTRY  hash: jid → msgpack {tick, when it was sent, how, when it ended or false}
-- note_runs(own, entry, {{jid, tick, how}, …}, kept): there are these, and only the last so many are kept. end_runs(own, {{'run', entry, jid, how}, …})
local function note_runs(own, entry, runs, kept)
  local key = own .. 'runs:' .. entry
  for _, r in ipairs(runs) do
    local t = now()
    local packed = cmsgpack.pack({r[2], t, r[3], r[3] ~= 'sent' and t or false})
    if type(redis.pcall('HSET', key, r[1], packed)) == 'table' then -- not a hash: none of ours wrote that
      redis.call('UNLINK', key)
      redis.call('HSET', key, r[1], packed)
    end
  end
  if redis.call('HLEN', key) <= kept then return end
  local all, found = {}, redis.call('HGETALL', key)
  for i = 1, #found, 2 do
    local known, r = pcall(cmsgpack.unpack, found[i + 1])
    local at = known and type(r) == 'table' and tonumber(r[2]) or 0
    all[#all + 1] = {at, found[i]}
  end
  table.sort(all, function(a, b) return a[1] > b[1] end)
  for i = kept + 1, #all do redis.call('HDEL', key, all[i][2]) end
end

local function end_runs(own, list)
  for _, e in ipairs(list) do
    local key = own .. 'runs:' .. e[2]
    local known, r = pcall(cmsgpack.unpack, redis.call('HGET', key, e[3]) or '')
    if known and type(r) == 'table' then redis.call('HSET', key, e[3], cmsgpack.pack({r[1], r[2], e[4], now()})) end
  end
end
