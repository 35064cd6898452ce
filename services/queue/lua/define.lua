-- Purpose: takes a sale's definition of a higher revision; answers the one that stands. A cohort that was due to be
--   frozen by the definition before is frozen already when this runs.
-- KEYS: def
-- ARGV: revision, definition
-- Returns: DEFINED
if line.revision >= cmd.revision then return {word = 'DEFINED', revision = line.revision} end

-- After this point nothing can fail.
redis.call('SET', keys.def, cmsgpack.pack(cmd.definition))
line.def = cmd.definition
line.revision = cmd.revision
put(line, 'revision', cmd.revision)
change(line, {act = 'DEFINED', cohort = cmd.revision, commitment = cmd.definition.commitment})
freeze_if_due(line)
return {word = 'DEFINED', revision = line.revision}
