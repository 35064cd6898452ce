-- Purpose: FREE → SOLD for an order whose payment came when its hold was gone. Exempt from turn and window, never from
--   the limit or from what is promised to others. Takes the same units where they are free; else others of their kind,
--   but of a seated section the very seats that were paid for, or nothing.
--   A repair is for an order that has tickets for these very units: nobody's limit can change that any more, nor that
--   they were returned.
-- KEYS: none
-- ARGV: hold_id, buyer, order_id, units, repair
-- Returns: REACQUIRED, SECTION_NOT_FOUND, TICKET_TYPE_NOT_FOUND, SECTION_SOLD_OUT, SOLD_OUT, SEAT_TAKEN, LIMIT_REACHED,
--   HOLD_BOUND
local GONE = { EXPIRED = true, RELEASED = true, LOST = true }

-- Whether an order's hold has ended, so that its units are to be had anew. What was returned for money that went back
-- is so for good; where the order has tickets all the same, it was returned by mistake.
local function is_gone(hold, cmd)
  return hold.order_id and (GONE[hold.state] or cmd.repair and hold.state == 'RETURNED')
end

-- For whom a seat is that not anyone may have as yet; nil of all others.
local function use_of(unit)
  local section = view.def.by_section[unit.section]
  if not section or not section.seats or seats.are_released() then
    return nil
  end
  local use = seats.use_of(unit.section, unit.unit)
  return use ~= 'ORDINARY' and use or nil
end

-- The units by section, ticket type, price and use as lines of a hold, which name the seats that they are for.
local function lines_of(wanted)
  local lines, by_kind = {}, {}
  for _, unit in ipairs(wanted) do
    local use = use_of(unit)
    local kind = unit.section .. ' ' .. unit.ticket_type .. ' ' .. unit.price .. ' ' .. (use or '')
    local line = by_kind[kind]
    if not line then
      line = { section = unit.section, ticket_type = unit.ticket_type, price = unit.price, use = use, quantity = 0,
               wanted = {} }
      by_kind[kind] = line
      lines[#lines + 1] = line
    end
    line.quantity = line.quantity + 1
    line.wanted[line.quantity] = unit.unit
  end
  return lines
end

local function refusal_of(cmd, lines)
  local refusal = rights.to_reacquire(cmd.buyer, lines, #cmd.units, cmd.repair)
  if not refusal and cmd.repair and not units.are_free(cmd.units) then
    return refuse('SECTION_SOLD_OUT', { section = cmd.units[1].section })
  end
  return refusal
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
  if hold and not is_gone(hold, cmd) then
    return holds.bound(hold)
  end
  local lines = lines_of(cmd.units)
  local refusal = refusal_of(cmd, lines)
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
