-- Purpose: For the sweeper: ends what is due, as every run does before it comes to its commands, and says
--   when the next thing ends.
-- KEYS: none
-- ARGV: none
-- Returns: EXPIRED
transitions.expire = function()
  return { word = 'EXPIRED', next_ms = view.next_deadline() }
end
