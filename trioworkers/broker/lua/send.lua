-- Shared by the scripts that send jobs (a prelude, not a script of its own).
-- send(w): w.queues, w.schedule: keys; w.push: {{name, key, {payload, …}}, …}; w.later: {{payload, delay or false, score or false}, …}
--
-- now() is never the same twice in one script, although TIME stands still there from Redis 7.2 on: Sidekiq's pages find an
-- entry of a sorted set by its score, and lose its neighbours of the same score if one of them has no jid.
local calls = 0
local function now()
  local t = redis.call('TIME')
  calls = calls + 1
  return t[1] + (t[2] + calls) / 1000000
end

local function send(w)
  for _, push in ipairs(w.push) do
    local payloads = push[3]
    for first = 1, #payloads, 1000 do
      redis.call('LPUSH', push[2], unpack(payloads, first, math.min(first + 999, #payloads)))
    end
    redis.call('SADD', w.queues, push[1])
  end
  for _, later in ipairs(w.later) do
    redis.call('ZADD', w.schedule, later[3] or (now() + later[2]), later[1])
  end
end

-- The dead set with Sidekiq's limits: 180 days, and (as ZREMRANGEBYRANK counts) 9,999 payloads.
local function bury(dead, payload)
  local t = now()
  redis.call('ZADD', dead, t, payload)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', t - 15552000)
  redis.call('ZREMRANGEBYRANK', dead, 0, -10000)
end
