-- Purpose: reads members' records in index order, for the draw's tree; changes nothing. `records` is one string,
--   empty behind the end.
-- KEYS: members
-- ARGV: first, most
-- Returns: MEMBERS
local from = cmd.first * RECORD_BYTES
local records = redis.call('GETRANGE', keys.members, from, from + cmd.most * RECORD_BYTES - 1)
return {word = 'MEMBERS', records = records}
