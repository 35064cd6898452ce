-- Purpose: notes who wants turn news for the place they have: a bit for each index. Asking again changes nothing; who
--   has no place is passed over. With a sale's first bit, what there is to tell begins where the line stands.
-- KEYS: asked
-- ARGV: buyers
-- Returns: ASKED, NO_LINE, WRONG_PHASE
if not line.def.line then return {word = 'NO_LINE'} end
local phase = phase_of(line)
if phase == 'SCHEDULED' or phase == 'CLOSED' then
  return {word = 'WRONG_PHASE', detail = phase_detail(line, 'LOBBY, OPEN or PAUSED')}
end

-- After this point nothing can fail.
local fresh, places = {}, buckets.read(cmd.buyers)
for at = 1, #cmd.buyers, BUYER_BYTES do
  local buyer = string.sub(cmd.buyers, at, at + BUYER_BYTES - 1)
  local index = buckets.index_of(buyer, places[(at - 1) / BUYER_BYTES + 1])
  if index and index >= 0 and note_asker(line, keys.asked, index) then fresh[#fresh + 1] = buyer end
end
if #fresh > 0 then change(line, {act = 'ASKED', buyers = table.concat(fresh)}) end
return {word = 'ASKED'}
