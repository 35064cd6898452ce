-- Purpose: reads the line's standing, the same for everyone who waits; changes nothing.
-- KEYS: none
-- ARGV: none
-- Returns: STANDING
local def = line.def
return {
  word = 'STANDING', phase = phase_of(line), now = line.now, serving = line.serving, joined = line.count,
  cohort = line.cohort, draw_key = line.draw_key, availability = line.availability, revision = line.revision,
  lobby_opens_ms = def.lobby_opens_ms, opens_ms = def.opens_ms, closes_ms = def.closes_ms, marks = line.marks,
  sequence = line.sequence, epoch = line.epoch, asked = line.asked, told_come = line.told_come,
  told_near = line.told_near,
}
