-- Purpose: promise, or a hold → bound to an order until its time in the order queue is over. The only place
--   where turn and window are judged for an order. The first answer, refusals too, is stored and repeated.
-- KEYS: none
-- ARGV: order_id, buyer, items, hold_id, place
-- Returns: CLAIMED, WRONG_PHASE, REHEARSAL, NOT_CALLED_YET, TURN_EXPIRED, ADMISSION_REQUIRED, ALLOWANCE_EXCEEDED, LIMIT_REACHED,
--   HOLD_LIMIT, ORDER_LIMIT, SECTION_SOLD_OUT, SOLD_OUT, SEAT_TAKEN, SEAT_RESERVED, NOT_ADJACENT,
--   SECTION_NOT_FOUND, TICKET_TYPE_NOT_FOUND, HOLD_NOT_FOUND,
--   HOLD_EXPIRED, HOLD_LOST, HOLD_RELEASED, HOLD_BOUND, IDEMPOTENCY_KEY_REUSED
local function answer(claim)
  if claim.word ~= 'CLAIMED' then
    return refuse(claim.word, claim.detail)
  end
  local hold = claim.hold_id and view.hold(claim.buyer, claim.hold_id)
  return { word = 'CLAIMED', claim_until_ms = claim.ends, hold = hold and holds.shown(hold) }
end

local function asked_by(cmd)
  return cmd.hold_id and 'hold ' .. cmd.hold_id or rights.asked(cmd.items)
end

-- A hold that is HELD was within turn and limit when it was made; only the window is judged again.
local function to_bind(cmd)
  local refusal = rights.taking_refusal()
  if refusal then return nil, refusal end
  local hold = view.hold(cmd.buyer, cmd.hold_id)
  if not hold then return nil, refuse('HOLD_NOT_FOUND') end
  refusal = holds.ended(hold) or ((hold.order_id or hold.state ~= 'HELD') and holds.bound(hold)) or nil
  return hold, refusal
end

local function bind(cmd, hold)
  hold.order_id = cmd.order_id
  hold.waiting = true
  hold.ends = math.max(hold.ends, view.now + view.def.queue_max_ms)
  view.save_hold(hold)
  view.set_hold_deadline(hold, hold.ends)
  changes.add('BOUND', { buyer = cmd.buyer, place = hold.place, order_id = cmd.order_id, hold_id = hold.hold_id,
                         until_ms = hold.ends })
  return { word = 'CLAIMED', state = 'BOUND', ends = hold.ends, hold_id = hold.hold_id }
end

transitions.claim = function(cmd)
  local stored = view.claim(cmd.order_id)
  if stored then
    if stored.buyer ~= cmd.buyer or stored.asked ~= asked_by(cmd) then
      return refuse('IDEMPOTENCY_KEY_REUSED')
    end
    return answer(stored)
  end
  local hold, lines, quantity, promise
  local refusal = rights.order_refusal(cmd.buyer)
  if not refusal and cmd.hold_id then
    hold, refusal = to_bind(cmd)
  elseif not refusal then
    lines, quantity, promise, refusal = rights.to_take(cmd.buyer, cmd.place, cmd.items)
  end
  if refusal and refusal.word == 'NOT_CALLED_YET' then
    -- No answer to keep: it will be another one in a moment.
    return refusal
  end
  -- After this point nothing can fail.
  local claim
  if refusal then
    rights.count_refused(cmd.buyer)
    claim = { word = refusal.word, detail = refusal.detail }
  elseif hold then
    claim = bind(cmd, hold)
  else
    rights.count(cmd.buyer, promise)
    if promise then
      promises.spend(cmd.buyer, promise, quantity)
    end
    claim = claims.open({ order_id = cmd.order_id, buyer = cmd.buyer, place = promise and promise.place,
                          lines = lines, quantity = quantity })
  end
  claim.order_id, claim.buyer, claim.asked = cmd.order_id, cmd.buyer, asked_by(cmd)
  view.save_claim(claim)
  return answer(claim)
end
