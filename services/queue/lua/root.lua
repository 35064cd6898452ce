-- Purpose: publishes the frozen cohort's root before the draw, once: a beacon's round is the first one after it.
-- KEYS: meta
-- ARGV: cohort, root
-- Returns: ROOTED, NOT_FROZEN, OTHER_COHORT
if not line.cohort then return {word = 'NOT_FROZEN'} end
if line.cohort ~= cmd.cohort then return {word = 'OTHER_COHORT'} end
local found = redis.call('HMGET', keys.meta, 'root', 'root_at')
local root, root_ms = found[1] or cmd.root, number_or(found[2], line.now)

-- After this point nothing can fail.
if not found[1] then
  redis.call('HSET', keys.meta, 'root', root, 'root_at', root_ms)
  change(line, {act = 'ROOTED', root = root})
end
return {word = 'ROOTED', root = root, root_ms = root_ms}
