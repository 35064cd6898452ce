-- Purpose: Holds: units taken for a buyer, and bound to an order once it has them.
-- KEYS: none
-- ARGV: none
-- Returns: none
local ENDED = { EXPIRED = 'HOLD_EXPIRED', RELEASED = 'HOLD_RELEASED', RETURNED = 'HOLD_RELEASED',
                LOST = 'HOLD_LOST' }

-- As the contract's Hold has it.
function holds.shown(hold)
  local shown = { hold_id = hold.hold_id, state = hold.state, units = hold.units, order_id = hold.order_id }
  if hold.state == 'HELD' or hold.state == 'EXPIRED' then
    shown.expires_at_ms = hold.ends
  end
  return shown
end

-- FREE → HELD; the caller has spent the promise or the claim that it comes from.
function holds.make(hold, lines)
  hold.field = view.hold_field(hold.buyer, hold.hold_id)
  for place = 1, #lines do
    units.hold(lines[place], hold.units)
  end
  local counts = view.buyer(hold.buyer)
  counts.held = counts.held + #hold.units
  view.save_buyer(hold.buyer, counts)
  view.save_hold(hold)
  view.set_hold_deadline(hold, hold.ends)
  changes.add('HELD', { buyer = hold.buyer, place = hold.place, order_id = hold.order_id, hold_id = hold.hold_id,
                        units = hold.units, until_ms = hold.ends })
  return hold
end

-- HELD → FREE, as RELEASED or EXPIRED; within the turn the promise is restored.
function holds.give_back(hold, state)
  local counts = view.buyer(hold.buyer)
  counts.held = counts.held - #hold.units
  view.save_buyer(hold.buyer, counts)
  units.give_back(hold.units)
  hold.state = state
  view.save_hold(hold)
  view.set_hold_deadline(hold, false)
  local restored = promises.restore(hold.buyer, hold.place, #hold.units)
  changes.add(state, { buyer = hold.buyer, place = hold.place, order_id = hold.order_id, hold_id = hold.hold_id,
                       restored = restored })
  promises.finish_if_done(hold.buyer)
end

-- What a hold that is not HELD any more answers to whoever needs it held, or nil.
function holds.ended(hold)
  if ENDED[hold.state] then
    local refusal = refuse(ENDED[hold.state], hold.state == 'EXPIRED' and { expired_at = hold.ends } or nil)
    refusal.hold = holds.shown(hold)
    return refusal
  end
end

function holds.bound(hold)
  local refusal = refuse('HOLD_BOUND', { state = hold.state })
  refusal.hold = holds.shown(hold)
  return refusal
end

-- The hold that an order's command names, if it is that order's own; else a refusal.
function holds.of_order(buyer, hold_id, order_id)
  local hold = view.hold(buyer, hold_id)
  if not hold or not hold.order_id then
    return nil, refuse('HOLD_NOT_FOUND')
  end
  if hold.order_id ~= order_id then
    return nil, refuse('HOLD_BOUND', { state = hold.state })
  end
  return hold
end
