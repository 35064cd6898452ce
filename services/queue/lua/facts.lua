-- Purpose: reads what is published of the draw, as far as it is known; changes nothing.
-- KEYS: meta
-- ARGV: none
-- Returns: FACTS, NO_LINE
if not line.def.line then return {word = 'NO_LINE'} end
local found = redis.call('HMGET', keys.meta, 'root', 'seed', 'beacon', 'frozen_at', 'root_at', 'beacon_round')
return {
  word = 'FACTS', cohort = line.cohort, root = found[1] or '', seed = found[2] or '', beacon = found[3] or '',
  frozen_ms = number_or(found[4], 0), root_ms = number_or(found[5], 0), beacon_round = found[6] or '',
}
