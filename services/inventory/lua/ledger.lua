-- Purpose: Reads the ledger's own numbers and every section's counts.
-- KEYS: none
-- ARGV: none
-- Returns: LEDGER
transitions.ledger = function()
  return { word = 'LEDGER', ledger = account.ledger(), sections = account.sections() }
end
