-- Purpose: LAPSED or FINISHED → WAITING at the end. Each buyer gives the index whose turn is over; whoever has
--   another one by now joined anew before, and keeps that (negative, minus one, for who left meanwhile).
--   `earlier` as in join.
-- KEYS: members
-- ARGV: buyers, indexes
-- Returns: RENEWED, WRONG_PHASE, OVERLOADED
local phase = phase_of(line)
if phase ~= 'OPEN' and phase ~= 'PAUSED' then
  return {word = 'WRONG_PHASE', detail = phase_detail(line, 'OPEN or PAUSED')}
end
local over = cmd.indexes
if line.count + #over > LINE_MAX then return {word = 'OVERLOADED'} end

-- After this point nothing can fail.
local indexes, earlier, added = {}, {}, {}
local next_index, places = line.count, buckets.read(cmd.buyers)
for i = 1, #over do
  local buyer = string.sub(cmd.buyers, (i - 1) * BUYER_BYTES + 1, i * BUYER_BYTES)
  local index = buckets.index_of(buyer, places[i])
  if index == over[i] then
    index = next_index
    buckets.move(buyer, index, places[i])
    added[#added + 1] = buyer
    next_index = next_index + 1
  else
    earlier[#earlier + 1] = i - 1
    earlier[#earlier + 1] = index
  end
  indexes[i] = index
end
append_members(line, keys.members, added, {})
for i = 2, #earlier, 2 do earlier[i] = record_of(keys.members, earlier[i]) end
return {word = 'RENEWED', indexes = indexes, earlier = earlier}
