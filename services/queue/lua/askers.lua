-- Purpose: reads who of those at some indexes want turn news and still stand there; changes nothing. `positions` are
--   theirs in the list of indexes.
-- KEYS: members, asked
-- ARGV: indexes
-- Returns: ASKERS
local positions, records = {}, {}
for i = 1, #cmd.indexes do
  local index = cmd.indexes[i]
  if redis.call('GETBIT', keys.asked, index) == 1 then
    local record = record_of(keys.members, index)
    local buyer = string.sub(record, 1, BUYER_BYTES)
    if buckets.has(buyer, index, buckets.read(buyer)[1]) then
      positions[#positions + 1] = i - 1
      records[#records + 1] = record
    end
  end
end
return {word = 'ASKERS', positions = positions, records = records}
