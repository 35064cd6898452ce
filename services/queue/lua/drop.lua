-- Purpose: frees an archived sale's keys; its stream in JetStream remains for the audit. Where it is only asked it
--   says whether it would.
-- KEYS: meta, def, index, members, out, lease, codes, spent, asked
-- ARGV: ask
-- Returns: DROPPED, DROPPABLE, WRONG_PHASE
local phase = phase_of(line)
if phase ~= 'CLOSED' then return {word = 'WRONG_PHASE', detail = phase_detail(line, 'CLOSED')} end
if cmd.ask then return {word = 'DROPPABLE'} end

-- After this point nothing can fail.
line.dropped = true
redis.call('UNLINK', keys.meta, keys.def, keys.index, keys.members, keys.out, keys.lease,
  keys.codes, keys.spent, keys.asked)
return {word = 'DROPPED'}
