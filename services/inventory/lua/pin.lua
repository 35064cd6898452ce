-- Purpose: HELD → HELD until the payment's deadline and grace; never shortens. COMMIT after it cannot find the
--   units gone, so no payment is opened before it.
-- KEYS: none
-- ARGV: hold_id, buyer, order_id, until_ms
-- Returns: PINNED, HOLD_NOT_FOUND, HOLD_EXPIRED, HOLD_LOST, HOLD_RELEASED, HOLD_BOUND
transitions.pin = function(cmd)
  local hold, refusal = holds.of_order(cmd.buyer, cmd.hold_id, cmd.order_id)
  if not hold then
    return refusal
  end
  refusal = holds.ended(hold)
  if refusal then
    return refusal
  end
  if hold.state ~= 'HELD' and not hold.pinned then
    return holds.bound(hold)
  end
  if hold.state ~= 'HELD' or hold.pinned and cmd.until_ms <= hold.ends then
    return { word = 'PINNED', hold = holds.shown(hold) }
  end
  -- After this point nothing can fail.
  hold.pinned = true
  hold.waiting = nil
  hold.ends = math.max(hold.ends, cmd.until_ms)
  view.save_hold(hold)
  view.set_hold_deadline(hold, hold.ends)
  changes.add('PINNED', { buyer = hold.buyer, order_id = hold.order_id, hold_id = hold.hold_id,
                          until_ms = hold.ends })
  return { word = 'PINNED', hold = holds.shown(hold) }
end
