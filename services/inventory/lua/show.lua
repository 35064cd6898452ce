-- Purpose: Reads one of a buyer's own holds.
-- KEYS: none
-- ARGV: buyer, hold_id
-- Returns: SHOWN, HOLD_NOT_FOUND
transitions.show = function(cmd)
  local hold = view.hold(cmd.buyer, cmd.hold_id)
  if not hold then
    return refuse('HOLD_NOT_FOUND')
  end
  return { word = 'SHOWN', hold = holds.shown(hold) }
end
