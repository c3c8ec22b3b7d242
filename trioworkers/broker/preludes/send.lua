-- Shared by the scripts that send jobs (a prelude, not a script of its own).
-- send(push, later): push  {{name, key, {payload, …}, LPUSH or RPUSH, key of the set of queues}, …}
--                    later {{payload, delay, score or false, place}, …}; a place is a sorted set's key, or the three of `delay`
--
-- What pcall caught, in words.
local function words(problem)
  return type(problem) == 'table' and problem.err or tostring(problem)
end

-- now() is never the same twice in one script: Sidekiq's pages find an entry of a sorted set by its score, and lose its neighbours of
-- the same score if one of them has no jid.
local calls, began = 0, nil
local function now()
  began = began or redis.call('TIME')
  calls = calls + 1
  return began[1] + (began[2] + calls) / 1000000
end

-- As resque-scheduler keeps what is to come: a list for each second, a sorted set of those seconds, and for each payload a set of
-- the lists that it is in. place: {key of the seconds, before a second, before a payload}. Never too early: seconds are rounded up.
local function delay(place, at, payload)
  local second = string.format('%.0f', math.ceil(at))
  redis.call('RPUSH', place[2] .. second, payload)
  redis.call('SADD', place[3] .. payload, 'delayed:' .. second)
  redis.call('ZADD', place[1], second, second)
end

-- All or nothing: what can't take its jobs is found before the first is written, for who hears of an error tries the whole again.
-- Looked at once in a script: the jobs of a group send to few queues, and nobody else changes them meanwhile.
local looked, known = {}, {}
local function look(command, key)
  if not looked[key] then redis.call(command, key) end
  looked[key] = true
end
local function add_name(queues, name)
  local member = queues .. ' ' .. name
  if not known[member] then redis.call('SADD', queues, name) end
  known[member] = true
end

local function look_at(push, later)
  for _, l in ipairs(later) do look('ZCARD', type(l[4]) == 'table' and l[4][1] or l[4]) end
  for _, p in ipairs(push) do look('LLEN', p[2]) end
end

local function send(push, later)
  look_at(push, later)
  for _, p in ipairs(push) do add_name(p[5], p[1]) end
  for _, p in ipairs(push) do
    local payloads = p[3]
    for first = 1, #payloads, 250 do -- cheaper than all at once
      redis.call(p[4], p[2], unpack(payloads, first, math.min(first + 249, #payloads)))
    end
  end
  for _, l in ipairs(later) do
    local at = l[3] or (now() + l[2])
    if type(l[4]) == 'table' then delay(l[4], at, l[1]) else redis.call('ZADD', l[4], at, l[1]) end
  end
end

-- Where what failed for good lies: in a list (Resque's records of failures), or in the dead set with Sidekiq's limits: 180 days, and (as ZREMRANGEBYRANK counts) 9,999 payloads.
local function bury(dead, payload, in_list)
  if in_list then return redis.call('RPUSH', dead, payload) end
  local t = now()
  redis.call('ZADD', dead, t, payload)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', t - 15552000)
  redis.call('ZREMRANGEBYRANK', dead, 0, -10000)
end

-- Two jobs of the same bytes would be one in a sorted set. JSON doesn't mind blanks at its end; the time spelled with them keeps
-- any number of such jobs apart at the first try.
local BLANKS = {[0] = ' ', '\t', '\n', '\r'}
local function blanks()
  local rest, text = math.floor(now() * 1000000 + 0.5) % 4294967296, ''
  for _ = 1, 16 do
    text = text .. BLANKS[rest % 4]
    rest = math.floor(rest / 4)
  end
  return text
end
