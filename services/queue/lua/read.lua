-- Purpose: reads buyers' entries; changes nothing. An index is negative, minus one, for who left, and false for
--   who is not in line; a record is empty then.
-- KEYS: index, members
-- ARGV: buyers
-- Returns: READ, NO_LINE
if not line.def.line then return {word = 'NO_LINE'} end
local indexes, records, position = {}, {}, 0
for at = 1, #cmd.buyers, BUYER_BYTES do
  local index = redis.call('HGET', keys.index, string.sub(cmd.buyers, at, at + BUYER_BYTES - 1))
  position = position + 1
  indexes[position] = number_or(index, false)
  records[position] = index and record_of(keys.members, tonumber(index)) or ''
end
return {word = 'READ', indexes = indexes, records = records}
