-- Purpose: stores what the draw came to, once: from here on every place is known. Where the root was published
--   before, it stays, and so does its time.
-- KEYS: meta
-- ARGV: cohort, root, draw_key, seed, beacon, beacon_round
-- Returns: DRAWN, NOT_FROZEN, OTHER_COHORT
if not line.cohort then return {word = 'NOT_FROZEN'} end
if line.cohort ~= cmd.cohort then return {word = 'OTHER_COHORT'} end
if line.draw_key then return {word = 'DRAWN'} end

-- After this point nothing can fail.
redis.call('HSETNX', keys.meta, 'root_at', line.now)
redis.call('HSET', keys.meta, 'draw_key', cmd.draw_key, 'root', cmd.root, 'seed', cmd.seed, 'beacon', cmd.beacon,
  'beacon_round', cmd.beacon_round)
line.draw_key = cmd.draw_key
change(line, {act = 'DRAWN', root = cmd.root, seed = cmd.seed, beacon = cmd.beacon, beacon_round = cmd.beacon_round})
return {word = 'DRAWN'}
