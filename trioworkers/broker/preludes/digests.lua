-- Shared by the scripts that speak of payloads by digest, over a link that breaks again and again (a prelude, not a script of its own).
-- A digest is a payload's SHA-1 and its size. by_digest(list, digests): how often each lies there, and its payload, both by digest.
local function digest_of(payload) return redis.sha1hex(payload) .. ' ' .. #payload end

local function by_digest(list, digests)
  local counts, payloads, sizes, index = {}, {}, {}, 0
  for _, digest in ipairs(digests) do counts[digest], sizes[string.match(digest, '^%x+ (%d+)$')] = 0, true end
  while true do
    local payload = redis.call('LINDEX', list, index)
    if not payload then return counts, payloads end
    local digest = sizes[tostring(#payload)] and digest_of(payload)
    if digest and counts[digest] then counts[digest], payloads[digest] = counts[digest] + 1, payload end
    index = index + 1
  end
end
