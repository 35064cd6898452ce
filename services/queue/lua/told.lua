-- Purpose: notes up to which place everyone who wanted turn news was told that the turn has come, and that it is near.
--   Never moves either back.
-- KEYS: none
-- ARGV: come, near
-- Returns: NOTED

-- After this point nothing can fail.
if cmd.come > line.told_come then
  line.told_come = cmd.come
  put(line, 'told_come', cmd.come)
end
if cmd.near > line.told_near then
  line.told_near = cmd.near
  put(line, 'told_near', cmd.near)
end
return {word = 'NOTED'}
