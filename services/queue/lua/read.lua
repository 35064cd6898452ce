-- Purpose: reads buyers' entries; changes nothing. An index is negative, minus one, for who left, and false for
--   who is not in line; a record is empty then.
-- KEYS: members
-- ARGV: buyers
-- Returns: READ, NO_LINE
if not line.def.line then return {word = 'NO_LINE'} end
local indexes, records, position = {}, {}, 0
local places = buckets.read(cmd.buyers)
for at = 1, #cmd.buyers, BUYER_BYTES do
  position = position + 1
  local index = buckets.index_of(string.sub(cmd.buyers, at, at + BUYER_BYTES - 1), places[position])
  indexes[position] = index or false
  records[position] = index and record_of(keys.members, index) or ''
end
return {word = 'READ', indexes = indexes, records = records}
