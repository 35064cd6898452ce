-- Purpose: HELD → FREE, or an open claim → promise; within the turn the promise is restored. A hold that an
--   order has is released by that order only.
-- KEYS: none
-- ARGV: hold_id, buyer, order_id
-- Returns: RELEASED, HOLD_NOT_FOUND, HOLD_EXPIRED, HOLD_LOST, HOLD_BOUND
local function release_claim(cmd)
  local claim = cmd.order_id and view.claim(cmd.order_id)
  if not claim or claim.buyer ~= cmd.buyer or claim.word ~= 'CLAIMED' then
    return refuse('HOLD_NOT_FOUND')
  end
  if claim.state == 'EXPIRED' then
    return refuse('HOLD_EXPIRED', { expired_at = claim.ends })
  end
  if claim.state == 'RELEASED' then
    return { word = 'RELEASED' }
  end
  if claim.state ~= 'OPEN' then
    return refuse('HOLD_NOT_FOUND')
  end
  -- After this point nothing can fail.
  claims.give_up(claim, 'RELEASED')
  return { word = 'RELEASED' }
end

transitions.release = function(cmd)
  local hold = view.hold(cmd.buyer, cmd.hold_id)
  if not hold then
    return release_claim(cmd)
  end
  if hold.state == 'RELEASED' then
    return { word = 'RELEASED', hold = holds.shown(hold) }
  end
  if hold.state == 'EXPIRED' or hold.state == 'LOST' then
    return holds.ended(hold)
  end
  if hold.state ~= 'HELD' or hold.order_id ~= cmd.order_id then
    return holds.bound(hold)
  end
  -- After this point nothing can fail.
  holds.give_back(hold, 'RELEASED')
  return { word = 'RELEASED', hold = holds.shown(hold) }
end
