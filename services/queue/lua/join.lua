-- Purpose: – → WAITING. Gives each buyer a place. Whoever has one keeps it; who left gets the same index back
--   before the freeze, and stands at the end after it. Two joins of who left are a pause apart, as each is an
--   event and takes room for good; until then the index is false. The answer's `earlier` are the positions in the batch of those who had
--   joined before, each followed by its member's record.
-- KEYS: index, members
-- ARGV: buyers, pause_ms
-- Returns: JOINED, NO_LINE, WRONG_PHASE, OVERLOADED
if not line.def.line then return {word = 'NO_LINE'} end
local phase = phase_of(line)
if phase == 'SCHEDULED' or phase == 'CLOSED' then
  return {word = 'WRONG_PHASE', detail = phase_detail(line, 'LOBBY, OPEN or PAUSED')}
end
local buyers = cmd.buyers
if line.count + #buyers / BUYER_BYTES > LINE_MAX then return {word = 'OVERLOADED'} end

-- After this point nothing can fail.
local indexes, earlier, added = {}, {}, {}
local next_index, position = line.count, 0
for at = 1, #buyers, BUYER_BYTES do
  local buyer = string.sub(buyers, at, at + BUYER_BYTES - 1)
  local index = next_index
  if redis.call('HSETNX', keys.index, buyer, next_index) == 0 then
    index = tonumber(redis.call('HGET', keys.index, buyer))
    if index < 0 and joined_at(keys.members, index) + cmd.pause_ms > line.now then
      index = false
    elseif index < 0 and line.cohort then
      index = next_index
      redis.call('HSET', keys.index, buyer, index)
    elseif index < 0 then
      index = -index - 1
      redis.call('HSET', keys.index, buyer, index)
      redis.call('SETRANGE', keys.members, index * RECORD_BYTES + BUYER_BYTES, struct.pack('>I6', line.now))
      change(line, {act = 'REJOINED', index = index, buyers = buyer})
    end
  end
  if index == next_index then
    added[#added + 1] = buyer
    next_index = next_index + 1
  elseif index then
    earlier[#earlier + 1] = position
    earlier[#earlier + 1] = index
  end
  position = position + 1
  indexes[position] = index
end
append_members(line, keys.members, added)
for i = 2, #earlier, 2 do earlier[i] = record_of(keys.members, earlier[i]) end
return {word = 'JOINED', indexes = indexes, earlier = earlier}
