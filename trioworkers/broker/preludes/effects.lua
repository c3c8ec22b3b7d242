-- Shared by the scripts by which jobs end or leave a worker (a prelude, not a script of its own; after limits.lua).
-- apply(own, effects): what becomes of what is held, once the jobs have moved: {{kind, …}, …}. Each can be repeated, and is whole or not
-- there. One that can't be done (a key of the wrong type, say) undoes nothing: it waits in `repairs` for whoever does the upkeep.
--   'result'  jid, text, seconds that it is kept
--   'progress' jid, text, seconds: how far a job is, kept for so long    'log' jid, text, seconds: its last log lines    'finished' class, N, text: how a job ended, the newest N of its class
--   'close'   {limit, …}, seconds: nothing starts under them for so long; before any permit is handed on
--   'steps'   jid, {name, text, …}, what becomes of all that is there: 0 it goes, n it stays n seconds, -1 until somebody says otherwise
--   'run'     entry, jid, how: the run of a periodic job that has ended, for its history
--   'permit'  holds, member, {limit, …}, jid that the permits are kept for, or ''
--   'member'  ID, jid, how it ended, name and result of one that has a name: of a batch; without a jid: look whether the batch is over; 'moved' ID: a member has moved
--   'follow'  ID, jid, how it ended, page: of the batch: those that wait for that member go on, from that page of them on
--   'unlock'  KEY, jid: the lock of a job that has ended; 'touch' KEY, jid: of one that has moved

local REPAIRS = 10000

local effect = {
  unlock = unlock_all,
  touch = touch_all,
  member = members_ended,
  follow = follow_on,
  moved = function(own, list)
    local ids = {}
    for _, e in ipairs(list) do ids[e[2]] = true end
    for id in pairs(ids) do touch_batches(own, {id}) end
  end,
  result = function(own, list)
    for _, e in ipairs(list) do
      redis.call('SET', own .. 'result:' .. e[2], e[3], 'EX', e[4])
      redis.pcall('PUBLISH', own .. 'result:' .. e[2], '') -- who may not publish lets others look for it
    end
  end,
  progress = function(own, list)
    for _, e in ipairs(list) do redis.call('SET', own .. 'progress:' .. e[2], e[3], 'EX', e[4]) end
  end,
  log = function(own, list)
    for _, e in ipairs(list) do redis.call('SET', own .. 'log:' .. e[2], e[3], 'EX', e[4]) end
  end,
  finished = function(own, list)
    local most = {}
    for _, e in ipairs(list) do most[e[2]] = e[3] end
    for class in pairs(most) do -- whatever can fail first: what had been pushed by then would be pushed once more with each repair
      redis.call('SADD', own .. 'finished', class)
      redis.call('LLEN', own .. 'finished:' .. class)
    end
    for _, e in ipairs(list) do redis.call('LPUSH', own .. 'finished:' .. e[2], string.format('%.3f ', now()) .. e[4]) end
    for class, count in pairs(most) do
      redis.call('LTRIM', own .. 'finished:' .. class, 0, count - 1)
      redis.call('EXPIRE', own .. 'finished:' .. class, 2592000)
    end
  end,
  close = function(own, list)
    for _, e in ipairs(list) do
      for _, name in ipairs(e[2]) do close(own, name, e[3]) end
    end
    write_gates(own)
  end,
  steps = function(own, list)
    for _, e in ipairs(list) do
      local key, results, stays = own .. 'steps:' .. e[2], e[3], e[4]
      if stays == 0 then
        redis.call('UNLINK', key)
      else
        for i = 1, #results, 2 do
          if not (pcall(redis.call, 'HSET', key, results[i], results[i + 1])) then -- not a hash: none of ours wrote that
            redis.call('UNLINK', key)
            redis.call('HSET', key, results[i], results[i + 1])
          end
        end
        if stays > 0 then redis.call('EXPIRE', key, stays) elseif #results > 0 then redis.call('PERSIST', key) end
      end
    end
  end,
  run = end_runs,
  permit = function(own, list)
    local by_holds = {}
    for _, e in ipairs(list) do
      by_holds[e[2]] = by_holds[e[2]] or {}
      table.insert(by_holds[e[2]], {e[3], e[4], e[5]})
    end
    for holds, attempts in pairs(by_holds) do let_go(own, holds, attempts) end
  end,
}

local function apply_kind(own, kind, list)
  if list and effect[kind] and not pcall(effect[kind], own, list) then
    redis.pcall('RPUSH', own .. 'repairs', cmsgpack.pack(list))
    redis.pcall('LTRIM', own .. 'repairs', -REPAIRS, -1)
  end
end

function apply(own, effects)
  local by_kind = {}
  for _, e in ipairs(effects) do
    by_kind[e[1]] = by_kind[e[1]] or {}
    table.insert(by_kind[e[1]], e)
  end
  apply_kind(own, 'close', by_kind.close)
  by_kind.close = nil
  for kind, list in pairs(by_kind) do apply_kind(own, kind, list) end
end
