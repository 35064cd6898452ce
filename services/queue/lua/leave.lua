-- Purpose: WAITING or CALLED → LEFT. The index stays, so that nobody's place shifts; calling passes over it. An
--   index is false for who is not in line; a record is empty then.
-- KEYS: members, asked
-- ARGV: buyers
-- Returns: LEFT, NO_LINE
if not line.def.line then return {word = 'NO_LINE'} end

-- After this point nothing can fail.
local indexes, records, position = {}, {}, 0
local places = buckets.read(cmd.buyers)
for at = 1, #cmd.buyers, BUYER_BYTES do
  local buyer = string.sub(cmd.buyers, at, at + BUYER_BYTES - 1)
  position = position + 1
  local index = buckets.index_of(buyer, places[position]) or false
  records[position] = index and record_of(keys.members, index) or ''
  if index and index >= 0 then
    change(line, {act = 'LEFT', index = index, buyers = buyer})
    index = -index - 1
    buckets.move(buyer, index, places[position])
    if line.asked > 0 then redis.call('SETBIT', keys.asked, -index - 1, 0) end
  end
  indexes[position] = index
end
return {word = 'LEFT', indexes = indexes, records = records}
