-- Shared by the scripts of outboxes (a prelude, not a script of its own).
-- numbering(key, field, kind, …): what is kept there, a value of each kind; nil if that is not what ours write. A key that is no hash goes: none of ours wrote it.
local is_of = {
  text = function(value) return type(value) == 'string' end,
  number = function(value) return type(value) == 'number' and value >= 0 and value < 4503599627370496 and value == math.floor(value) end,
}
local function numbering(key, field, ...)
  if redis.call('TYPE', key).ok ~= 'hash' then redis.call('UNLINK', key) end
  local known, state = pcall(cmsgpack.unpack, redis.call('HGET', key, field) or '')
  if not known or type(state) ~= 'table' then return nil end
  for i, kind in ipairs({...}) do
    if not is_of[kind](state[i]) then return nil end
  end
  return state
end

