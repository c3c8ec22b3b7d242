-- Shared by the scripts that read payloads (a prelude, not a script of its own).
-- in_pages(count, bytes, read): up to so many payloads, but no more after so many bytes. read(offset, n) returns the next n, if there
-- are as many. Returns them, and whether there may be more.
-- One first, then more and more, as long as they should fit by what those before weigh: a few commands for all. Small pages: what they
-- weigh is known when they are read, and huge ones may follow small ones.
local function in_pages(count, bytes, read)
  local result, size, page = {}, 0, 1
  while #result < count and size < bytes do
    page = math.min(page, 100, count - #result)
    local payloads = read(#result, page)
    for _, payload in ipairs(payloads) do
      result[#result + 1] = payload
      size = size + #payload
    end
    if #payloads < page then return result, false end
    page = math.max(1, math.min(page * 16, math.floor((bytes - size) * #result / math.max(1, size))))
  end
  return result, true
end

