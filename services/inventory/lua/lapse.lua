-- Purpose: promise → –: the buyer left or finished. What is held or claimed stays.
-- KEYS: none
-- ARGV: buyer, place
-- Returns: LAPSED
transitions.lapse = function(cmd)
  local promise = view.promise(cmd.buyer)
  -- After this point nothing can fail.
  if promise and promise.place == cmd.place then
    promises.lapse(cmd.buyer)
  end
  return { word = 'LAPSED' }
end
