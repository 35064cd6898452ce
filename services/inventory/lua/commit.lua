-- Purpose: HELD → SOLD.
-- KEYS: none
-- ARGV: hold_id, buyer, order_id, repair
-- Returns: COMMITTED, HOLD_NOT_FOUND, HOLD_EXPIRED, HOLD_LOST, HOLD_RELEASED, HOLD_BOUND
transitions.commit = function(cmd)
  local hold, refusal = holds.of_order(cmd.buyer, cmd.hold_id, cmd.order_id)
  if not hold then
    return refusal
  end
  if hold.state == 'SOLD' then
    return { word = 'COMMITTED', hold = holds.shown(hold) }
  end
  refusal = holds.ended(hold)
  if refusal then
    return refusal
  end
  -- After this point nothing can fail.
  local counts = view.buyer(hold.buyer)
  counts.held = counts.held - #hold.units
  counts.owned = counts.owned + #hold.units
  view.save_buyer(hold.buyer, counts)
  units.sell(hold.units)
  hold.state = 'SOLD'
  view.save_hold(hold)
  view.set_hold_deadline(hold, false)
  changes.add('COMMITTED', { buyer = hold.buyer, place = hold.place, order_id = hold.order_id,
                             hold_id = hold.hold_id, repair = cmd.repair })
  promises.finish_if_done(hold.buyer)
  return { word = 'COMMITTED', hold = holds.shown(hold) }
end
