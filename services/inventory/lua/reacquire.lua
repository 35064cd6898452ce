-- Purpose: FREE → SOLD for an order whose payment came when its hold was gone. Exempt from turn and window, never from
--   the limit or from what is promised to others. Takes the same units where they are free, else others
--   of their kind; of seats no others.
--   A repair is for an order that has tickets for these very units: nobody's limit can change that any more.
-- KEYS: none
-- ARGV: hold_id, buyer, order_id, units, repair
-- Returns: REACQUIRED, SECTION_NOT_FOUND, TICKET_TYPE_NOT_FOUND, SECTION_SOLD_OUT, SOLD_OUT, LIMIT_REACHED, HOLD_BOUND
local GONE = { EXPIRED = true, RELEASED = true, LOST = true }

-- The units by section, ticket type and price, as lines of a hold.
local function lines_of(wanted)
  local lines, by_kind = {}, {}
  for _, unit in ipairs(wanted) do
    local kind = unit.section .. ' ' .. unit.ticket_type .. ' ' .. unit.price
    if not by_kind[kind] then
      by_kind[kind] = { section = unit.section, ticket_type = unit.ticket_type, price = unit.price, quantity = 0 }
      lines[#lines + 1] = by_kind[kind]
    end
    by_kind[kind].quantity = by_kind[kind].quantity + 1
  end
  return lines
end

local function take(wanted, lines)
  local taken = {}
  if units.are_free(wanted) then
    for _, unit in ipairs(wanted) do
      taken[#taken + 1] = { section = unit.section, unit = unit.unit, ticket_type = unit.ticket_type,
                            price = unit.price }
    end
    units.hold_these(taken)
  else
    for _, line in ipairs(lines) do
      units.hold(line, taken)
    end
  end
  units.sell(taken)
  return taken
end

transitions.reacquire = function(cmd)
  local hold = view.hold(cmd.buyer, cmd.hold_id)
  if hold and hold.order_id and hold.order_id ~= cmd.order_id then
    return holds.bound(hold)
  end
  if hold and hold.state == 'SOLD' and hold.order_id then
    return { word = 'REACQUIRED', hold = holds.shown(hold) }
  end
  if hold and not (GONE[hold.state] and hold.order_id) then
    return holds.bound(hold)
  end
  local lines = lines_of(cmd.units)
  local refusal = rights.to_reacquire(cmd.buyer, cmd.units, lines, cmd.repair)
  if refusal then
    return refusal
  end
  -- After this point nothing can fail.
  hold = hold or { hold_id = cmd.hold_id, buyer = cmd.buyer, asked = '',
                   field = view.hold_field(cmd.buyer, cmd.hold_id) }
  hold.order_id, hold.state, hold.ends = cmd.order_id, 'SOLD', hold.ends or view.now
  hold.units = take(cmd.units, lines)
  local counts = view.buyer(cmd.buyer)
  counts.owned = counts.owned + #hold.units
  view.save_buyer(cmd.buyer, counts)
  view.save_hold(hold)
  changes.add('REACQUIRED', { buyer = cmd.buyer, order_id = cmd.order_id, hold_id = cmd.hold_id, units = hold.units,
                              repair = cmd.repair })
  return { word = 'REACQUIRED', hold = holds.shown(hold) }
end
