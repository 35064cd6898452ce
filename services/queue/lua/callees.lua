-- Purpose: reads who stands at some indexes, for calling; changes nothing. `gone` are the positions in the list of
--   those who left, or who stand at another index by now.
-- KEYS: members
-- ARGV: indexes
-- Returns: CALLEES
local records, buyers, gone = {}, {}, {}
for i = 1, #cmd.indexes do
  records[i] = record_of(keys.members, cmd.indexes[i])
  buyers[i] = string.sub(records[i], 1, BUYER_BYTES)
end
local places = buckets.read(table.concat(buyers))
for i = 1, #buyers do
  if not buckets.has(buyers[i], cmd.indexes[i], places[i]) then gone[#gone + 1] = i - 1 end
end
return {word = 'CALLEES', records = records, gone = gone}
