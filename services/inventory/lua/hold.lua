-- Purpose: FREE → HELD, all or nothing, from the buyer's own promise, from what is free in a sale without a
--   line, or from the claim of an order.
-- KEYS: none
-- ARGV: hold_id, buyer, items, order_id, place
-- Returns: HELD, QUEUE_TIMEOUT, WRONG_PHASE, REHEARSAL, NOT_CALLED_YET, TURN_EXPIRED, ADMISSION_REQUIRED, ALLOWANCE_EXCEEDED,
--   LIMIT_REACHED, HOLD_LIMIT, ORDER_LIMIT, SECTION_SOLD_OUT, SOLD_OUT, SEAT_TAKEN, SEAT_RESERVED, NOT_ADJACENT,
--   SECTION_NOT_FOUND, TICKET_TYPE_NOT_FOUND, HOLD_NOT_FOUND, HOLD_EXPIRED, HOLD_LOST, HOLD_RELEASED, HOLD_BOUND, IDEMPOTENCY_KEY_REUSED
-- What a hold that was filled in again was asked for is not known; its id is the buyer's own all the same.
local function answer_again(cmd, hold)
  local is_same = cmd.order_id and hold.order_id == cmd.order_id
    or not cmd.order_id and (hold.asked == '' or hold.asked == rights.asked(cmd.items))
  if not is_same then
    return refuse('IDEMPOTENCY_KEY_REUSED')
  end
  if hold.state == 'EXPIRED' and cmd.order_id and hold.waiting then
    return refuse('QUEUE_TIMEOUT', { expired_at = hold.ends })
  end
  local ended = holds.ended(hold)
  if ended then
    return ended
  end
  if cmd.order_id and hold.waiting then
    hold.waiting = nil
    view.save_hold(hold)
  end
  return { word = 'HELD', hold = holds.shown(hold) }
end

local function hold_for_order(cmd)
  local claim = view.claim(cmd.order_id)
  local refusal = claims.refusal(claim, cmd.buyer)
  if refusal then
    return refusal
  end
  -- After this point nothing can fail.
  claims.spend(claim)
  local ends = math.max(claim.ends, view.now + view.def.hold_ms)
  local hold = holds.make({ hold_id = cmd.hold_id, buyer = cmd.buyer, order_id = cmd.order_id, place = claim.place,
                            state = 'HELD', asked = claim.asked, ends = ends, units = {} }, claim.lines)
  return { word = 'HELD', hold = holds.shown(hold) }
end

transitions.hold = function(cmd)
  local existing = view.hold(cmd.buyer, cmd.hold_id)
  if existing then
    return answer_again(cmd, existing)
  end
  if cmd.order_id then
    return hold_for_order(cmd)
  end
  local lines, quantity, promise, refusal = rights.to_take(cmd.buyer, cmd.place, cmd.items)
  if refusal then
    return refusal
  end
  -- After this point nothing can fail.
  rights.count(cmd.buyer, promise)
  if promise then
    promises.spend(cmd.buyer, promise, quantity)
  end
  local ends = view.now + view.def.hold_ms
  local hold = holds.make({ hold_id = cmd.hold_id, buyer = cmd.buyer, place = promise and promise.place,
                            state = 'HELD', asked = rights.asked(cmd.items), ends = ends, units = {} }, lines)
  return { word = 'HELD', hold = holds.shown(hold) }
end
