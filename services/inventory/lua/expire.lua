-- Purpose: For the sweeper: ends what is due, as every run does, and says when to come again.
-- KEYS: none
-- ARGV: none
-- Returns: EXPIRED
transitions.expire = function()
  return { word = 'EXPIRED', next_ms = view.next_deadline() }
end
