-- Purpose: SOLD → FREE, all of a hold's units or those named, once. They go to the next in line.
-- KEYS: none
-- ARGV: hold_id, buyer, order_id, units, repair
-- Returns: RETURNED, HOLD_NOT_FOUND, HOLD_BOUND
local function has_all(hold, named)
  if #named == 0 then
    return true
  end
  local own = {}
  for _, unit in ipairs(hold.units) do
    own[unit.section .. ' ' .. unit.unit] = true
  end
  for _, unit in ipairs(named) do
    if not own[unit.section .. ' ' .. unit.unit] then
      return false
    end
  end
  return true
end

-- The units among `named`, or among all, that were not returned before; and how many stay sold.
local function to_return(hold, named)
  local wanted = {}
  for _, unit in ipairs(named) do
    wanted[unit.section .. ' ' .. unit.unit] = true
  end
  local going, staying = {}, 0
  for _, unit in ipairs(hold.units) do
    local is_wanted = #named == 0 or wanted[unit.section .. ' ' .. unit.unit]
    if is_wanted and not unit.returned then
      going[#going + 1] = unit
    elseif not unit.returned then
      staying = staying + 1
    end
  end
  return going, staying
end

transitions['return'] = function(cmd)
  local hold, refusal = holds.of_order(cmd.buyer, cmd.hold_id, cmd.order_id)
  if not hold then
    return refusal
  end
  if hold.state ~= 'SOLD' and hold.state ~= 'RETURNED' then
    return holds.bound(hold)
  end
  if not has_all(hold, cmd.units) then
    return refuse('HOLD_NOT_FOUND')
  end
  local going, staying = to_return(hold, cmd.units)
  if #going == 0 then
    return { word = 'RETURNED', hold = holds.shown(hold) }
  end
  -- After this point nothing can fail.
  local counts = view.buyer(hold.buyer)
  counts.owned = counts.owned - #going
  view.save_buyer(hold.buyer, counts)
  units.take_back(going)
  local back = {}
  for _, unit in ipairs(going) do
    back[#back + 1] = { section = unit.section, unit = unit.unit, ticket_type = unit.ticket_type,
                        price = unit.price }
    unit.returned = true
  end
  hold.state = staying == 0 and 'RETURNED' or 'SOLD'
  view.save_hold(hold)
  changes.add('RETURNED', { buyer = hold.buyer, order_id = hold.order_id, hold_id = hold.hold_id, units = back,
                            repair = cmd.repair })
  return { word = 'RETURNED', hold = holds.shown(hold) }
end
