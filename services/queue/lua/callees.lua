-- Purpose: reads who stands at some indexes, for calling; changes nothing. `gone` are the positions in the list of
--   those who left, or who stand at another index by now.
-- KEYS: index, members
-- ARGV: indexes
-- Returns: CALLEES
local records, gone = {}, {}
for i = 1, #cmd.indexes do
  local index = cmd.indexes[i]
  local record = record_of(keys.members, index)
  local present = redis.call('HGET', keys.index, string.sub(record, 1, BUYER_BYTES))
  records[i] = record
  if not present or tonumber(present) ~= index then gone[#gone + 1] = i - 1 end
end
return {word = 'CALLEES', records = records, gone = gone}
