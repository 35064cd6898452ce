-- Purpose: Fills in a part of what is known of a sale whose store was lost: sections' free units, blocks,
--   promises, holds and claims. Parts come in the order of their numbers, from 1; one that comes again is in already.
--   The part that brings `last` is the last one: the sale is sold again.
-- KEYS: none
-- ARGV: number, sections, blocks, promises, holds, claims, last
-- Returns: FILLED
local function block_in(block)
  block.asked = rights.asked(block.items)
  if block.state == 'BLOCKED' then
    units.put(block.units, 'BLOCKED')
  end
  view.save_block(block)
end

local function promise_in(promise)
  view.save_promise(promise.buyer, promise)
  if promise.state == 'PROMISED' then
    view.meta.promised = view.meta.promised + promise.left
    view.meta.turns = view.meta.turns + 1
    view.set_turn_deadline(promise.buyer, promise.turn_ends)
  end
end

local function hold_in(hold)
  local counts = view.buyer(hold.buyer)
  hold.field = view.hold_field(hold.buyer, hold.hold_id)
  hold.asked = hold.items and rights.asked(hold.items) or ''
  if hold.state == 'HELD' then
    units.put(hold.units, 'HELD')
    counts.held = counts.held + #hold.units
    view.set_hold_deadline(hold, hold.ends)
  elseif hold.state == 'SOLD' then
    local owned = {}
    for _, unit in ipairs(hold.units) do
      owned[#owned + 1] = not unit.returned and unit or nil
    end
    units.put(owned, 'SOLD')
    counts.owned = counts.owned + #owned
  end
  view.save_buyer(hold.buyer, counts)
  view.save_hold(hold)
end

local function claim_in(claim)
  claim.asked = claim.hold_id and 'hold ' .. claim.hold_id or rights.asked(claim.items)
  view.save_claim(claim)
  if claim.state == 'OPEN' then
    local counts = view.buyer(claim.buyer)
    counts.claimed = counts.claimed + claim.quantity
    view.save_buyer(claim.buyer, counts)
    for _, line in ipairs(claim.lines) do
      units.claim(line)
    end
    view.meta.claims = view.meta.claims + 1
    view.set_claim_deadline(claim.order_id, claim.ends)
  end
end

transitions.fill = function(cmd)
  if cmd.number <= (view.meta.filled or 0) then
    return { word = 'FILLED' }
  end
  assert(view.meta.filling == 1, 'the ledger contradicts itself: it is full, but not of all its parts')
  -- After this point nothing can fail.
  for _, section in ipairs(cmd.sections) do
    units.put_free(section.id, section.fresh, section.returned)
  end
  for _, block in ipairs(cmd.blocks) do block_in(block) end
  for _, promise in ipairs(cmd.promises) do promise_in(promise) end
  for _, hold in ipairs(cmd.holds) do hold_in(hold) end
  for _, claim in ipairs(cmd.claims) do claim_in(claim) end
  if cmd.last then
    view.meta.sequence, view.meta.watermark = cmd.last.sequence, cmd.last.watermark
    view.meta.stamp = cmd.last.stamp
    view.now = math.max(view.now, cmd.last.at_ms)
    view.meta.filling = 0
  end
  view.meta.filled = cmd.number
  view.has_changed = true
  return { word = 'FILLED' }
end
