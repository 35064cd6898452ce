-- Purpose: records what those who wait are told there is to wait for, when it changes. Only the latest leader may.
-- KEYS: none
-- ARGV: availability, fence
-- Returns: TOLD, STALE_LEADER
if cmd.fence ~= line.fence then return {word = 'STALE_LEADER'} end
if cmd.availability == line.availability then return {word = 'TOLD'} end

-- After this point nothing can fail.
line.availability = cmd.availability
put(line, 'availability', cmd.availability)
change(line, {act = cmd.availability, serving = line.serving})
return {word = 'TOLD'}
