-- Purpose: Claims: units kept for an accepted order until a worker holds them for it. A claim is stored with
--   its first answer, refusals too.
-- KEYS: none
-- ARGV: none
-- Returns: none
-- promise, or what is free without a line → claimed.
function claims.open(claim)
  local counts = view.buyer(claim.buyer)
  counts.claimed = counts.claimed + claim.quantity
  view.save_buyer(claim.buyer, counts)
  for _, line in ipairs(claim.lines) do
    units.claim(line)
  end
  view.meta.claims = view.meta.claims + 1
  claim.word, claim.state, claim.ends = 'CLAIMED', 'OPEN', view.now + view.def.queue_max_ms
  view.save_claim(claim)
  view.set_claim_deadline(claim.order_id, claim.ends)
  changes.add('CLAIMED', { buyer = claim.buyer, place = claim.place, order_id = claim.order_id,
                           quantity = claim.quantity, until_ms = claim.ends, items = claim.lines })
  return claim
end

local function close(claim, state)
  local counts = view.buyer(claim.buyer)
  counts.claimed = counts.claimed - claim.quantity
  view.save_buyer(claim.buyer, counts)
  for _, line in ipairs(claim.lines) do
    units.unclaim(line)
  end
  view.meta.claims = view.meta.claims - 1
  claim.state = state
  view.save_claim(claim)
  view.set_claim_deadline(claim.order_id, false)
end

-- claimed → the hold that the same command makes.
function claims.spend(claim)
  close(claim, 'SPENT')
end

-- claimed → back to the promise within the turn, else to the next in line.
function claims.give_up(claim, state)
  close(claim, state)
  local restored = promises.restore(claim.buyer, claim.place, claim.quantity)
  changes.add('UNCLAIMED', { buyer = claim.buyer, place = claim.place, order_id = claim.order_id,
                             quantity = claim.quantity, restored = restored })
  promises.finish_if_done(claim.buyer)
end

-- Why an order's claim cannot be spent, or nil.
function claims.refusal(claim, buyer)
  if not claim or claim.buyer ~= buyer then return refuse('HOLD_NOT_FOUND') end
  if claim.word ~= 'CLAIMED' then return refuse(claim.word, claim.detail) end
  if claim.state == 'EXPIRED' then return refuse('QUEUE_TIMEOUT', { expired_at = claim.ends }) end
  if claim.state == 'RELEASED' then return refuse('HOLD_RELEASED') end
  if claim.state ~= 'OPEN' then return refuse('IDEMPOTENCY_KEY_REUSED') end
end
