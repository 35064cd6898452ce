-- Purpose: For the sweeper: ends what is due, as every run does before it comes to its commands.
-- KEYS: none
-- ARGV: none
-- Returns: EXPIRED
transitions.expire = function()
  return { word = 'EXPIRED' }
end
