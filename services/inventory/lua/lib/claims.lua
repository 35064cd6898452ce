-- Purpose: Claims: units kept for an accepted order until a worker holds them for it. A claim is stored with
--   its first answer, refusals too.
-- KEYS: none
-- ARGV: none
-- Returns: none
-- What was asked for, and the seats that are kept for it, as the contract names them.
local function told(lines)
  local items, kept = {}, {}
  for place, line in ipairs(lines) do
    items[place] = { section = line.section, ticket_type = line.ticket_type, quantity = line.quantity }
    for _, unit in ipairs(line.units or {}) do
      kept[#kept + 1] = { section = line.section, unit = unit, ticket_type = line.ticket_type }
    end
  end
  return items, kept
end

-- A claim is a record, a deadline and a change with all that was asked for: about as much as this many units.
local COST = 2

-- promise, or what is free without a line → claimed.
function claims.open(claim)
  changes.cost = changes.cost + COST
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
  local items, kept = told(claim.lines)
  changes.add('CLAIMED', { buyer = claim.buyer, place = claim.place, order_id = claim.order_id,
                           quantity = claim.quantity, until_ms = claim.ends, items = items, units = kept })
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
