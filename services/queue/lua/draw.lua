-- Purpose: stores what the draw came to, once: from here on every place is known.
-- KEYS: meta
-- ARGV: cohort, root, draw_key, seed, beacon
-- Returns: DRAWN, NOT_FROZEN, OTHER_COHORT
if not line.cohort then return {word = 'NOT_FROZEN'} end
if line.cohort ~= cmd.cohort then return {word = 'OTHER_COHORT'} end
if line.draw_key then return {word = 'DRAWN'} end

-- After this point nothing can fail.
redis.call('HSET', keys.meta, 'draw_key', cmd.draw_key, 'root', cmd.root, 'seed', cmd.seed, 'beacon', cmd.beacon)
line.draw_key = cmd.draw_key
change(line, {act = 'DRAWN', root = cmd.root, seed = cmd.seed, beacon = cmd.beacon})
return {word = 'DRAWN'}
