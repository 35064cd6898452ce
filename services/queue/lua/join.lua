-- Purpose: – → WAITING. Gives each buyer a place. Whoever has one keeps it; who left gets the same index back
--   before the freeze, and stands at the end after it. Two joins of who left are a pause apart, as each is an
--   event and takes room for good; until then the index is false. The answer's `earlier` are the positions in the
--   batch of those who had joined before, each followed by its member's record. Where the sale wants them, who never
--   joined uses up a solved challenge and then a use of an access code; `unsolved` and `unopened` are the positions of
--   those who did not have one. A wrong code costs its challenge, so that guessing is work.
-- KEYS: members, codes, spent
-- ARGV: buyers, pause_ms, codes, challenges, spent_ms
-- Returns: JOINED, NO_LINE, WRONG_PHASE, OVERLOADED
if not line.def.line then return {word = 'NO_LINE'} end
local phase = phase_of(line)
if phase == 'SCHEDULED' or phase == 'CLOSED' then
  return {word = 'WRONG_PHASE', detail = phase_detail(line, 'LOBBY, OPEN or PAUSED')}
end
local buyers = cmd.buyers
if line.count + #buyers / BUYER_BYTES > LINE_MAX then return {word = 'OVERLOADED'} end

-- After this point nothing can fail.
local indexes, earlier, added, used = {}, {}, {}, {}
local unsolved, unopened = {}, {}
local next_index, position = line.count, 0
local wants_challenge, wants_code = line.def.challenge, line.def.codes
local places = buckets.read(buyers)
if wants_challenge then redis.call('ZREMRANGEBYSCORE', keys.spent, '-inf', line.now) end
for at = 1, #buyers, BUYER_BYTES do
  local buyer = string.sub(buyers, at, at + BUYER_BYTES - 1)
  local index = buckets.index_of(buyer, places[position + 1])
  local is_new = index == nil
  local code = wants_code and string.sub(cmd.codes, position * ID_BYTES + 1, (position + 1) * ID_BYTES)
  if is_new and wants_challenge
    and not spend(keys.spent, string.sub(cmd.challenges, position * ID_BYTES + 1, (position + 1) * ID_BYTES),
      line.now + cmd.spent_ms) then
    unsolved[#unsolved + 1] = position
    index = false
  elseif is_new and wants_code and not use_code(keys.codes, code) then
    unopened[#unopened + 1] = position
    index = false
  elseif is_new then
    index = next_index
    buckets.add(buyer, index, places[position + 1])
  elseif index < 0 and joined_at(keys.members, index) + cmd.pause_ms > line.now then
    index = false
  elseif index < 0 and line.cohort then
    index = next_index
    buckets.move(buyer, index, places[position + 1])
  elseif index < 0 then
    index = -index - 1
    buckets.move(buyer, index, places[position + 1])
    redis.call('SETRANGE', keys.members, index * RECORD_BYTES + BUYER_BYTES, struct.pack('>I6', line.now))
    change(line, {act = 'REJOINED', index = index, buyers = buyer})
  end
  if index == next_index then
    added[#added + 1] = buyer
    if wants_code then used[#used + 1] = is_new and code or NO_ID end
    next_index = next_index + 1
  elseif index then
    earlier[#earlier + 1] = position
    earlier[#earlier + 1] = index
  end
  position = position + 1
  indexes[position] = index
end
append_members(line, keys.members, added, used)
for i = 2, #earlier, 2 do earlier[i] = record_of(keys.members, earlier[i]) end
return {word = 'JOINED', indexes = indexes, earlier = earlier, unsolved = unsolved, unopened = unopened}
