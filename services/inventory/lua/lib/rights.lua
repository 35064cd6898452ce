-- Purpose: Who may take what, now: the window, the items, the promise, the limit, the stock and how often, in this order.
-- KEYS: none
-- ARGV: none
-- Returns: none
function rights.phase()
  local def = view.def
  if view.now >= def.closes_ms then return 'CLOSED' end
  if view.now >= def.opens_ms then return def.paused and 'PAUSED' or 'OPEN' end
  if view.now >= def.lobby_opens_ms then return 'LOBBY' end
  return 'SCHEDULED'
end

-- Pausing stops calling only: whoever was called goes on.
function rights.window_refusal()
  local phase = rights.phase()
  if phase == 'OPEN' or phase == 'PAUSED' then
    return nil
  end
  local detail = { phase = phase, needs = 'OPEN', opens_at = view.def.opens_ms }
  if phase ~= 'CLOSED' then
    detail.retry_after_ms = view.def.opens_ms - view.now
  end
  return refuse('WRONG_PHASE', detail)
end

-- A rehearsal has its line called and admitted, to the last step before something would be sold.
function rights.taking_refusal()
  return rights.window_refusal() or (view.def.rehearsal and refuse('REHEARSAL')) or nil
end

-- What was asked for, as text: the same id must ask for the same again.
function rights.asked(items)
  local asked = ''
  for place = 1, #items do
    local item = items[place]
    asked = asked .. item.section .. ' ' .. (item.ticket_type or '') .. ' ' .. item.quantity
    if item.units or item.together or item.use then
      local named = item.units and table.concat(item.units, '+') or item.together and 'together' or ''
      asked = asked .. ' ' .. named .. ' ' .. (item.use or '')
    end
    asked = asked .. ','
  end
  return asked
end

-- The items as lines with their ticket type, and how many units they are together; or a refusal.
local function lines_of(items)
  local lines, quantity = {}, 0
  for place = 1, #items do
    local item = items[place]
    if not view.def.by_section[item.section] then
      return nil, 0, refuse('SECTION_NOT_FOUND', { section = item.section })
    end
    local ticket_type = units.ticket_type(item.section, item.ticket_type)
    if not ticket_type then
      return nil, 0, refuse('TICKET_TYPE_NOT_FOUND', { section = item.section, ticket_type = item.ticket_type })
    end
    lines[place] = { section = item.section, ticket_type = ticket_type.id, quantity = item.quantity,
                     use = item.use, wanted = item.units, together = item.together }
    quantity = quantity + item.quantity
  end
  return lines, quantity
end

-- The live promise of this place, nothing in a sale without a line, or a refusal.
local function live_promise(buyer, place)
  if not view.def.line then
    return nil
  end
  local promise = view.promise(buyer)
  if place and place >= view.meta.watermark then
    -- Only who was called has an admission: that call went with a store that was lost, and is about to be made again.
    return nil, refuse('NOT_CALLED_YET', { place = place, retry_after_ms = 1000 })
  end
  if not place or not promise then
    return nil, refuse('ADMISSION_REQUIRED')
  end
  if promise.place ~= place then
    return nil, refuse('TURN_EXPIRED')
  end
  if promise.state ~= 'PROMISED' then
    return nil, refuse('TURN_EXPIRED', { ended_at = promise.ended })
  end
  return promise
end

local function limit_refusal(buyer, quantity)
  local counts = view.buyer(buyer)
  local has = counts.held + counts.owned + counts.claimed
  if has + quantity > view.def.limit then
    return refuse('LIMIT_REACHED', { limit = view.def.limit, has = has })
  end
end

local function allowance_refusal(promise, quantity)
  if promise and quantity > promise.left then
    return refuse('ALLOWANCE_EXCEEDED', { allowance = promise.left })
  end
end

-- How long until something that is under way may come back; nothing where all is sold.
local function may_return_in()
  if units.under_way > 0 then
    return math.max(1000, math.min(5000, (view.next_deadline() or view.now) - view.now))
  end
end

local function section_refusal(line, left)
  local detail = { section = line.section, left = math.max(0, left) }
  for _, section in ipairs(view.def.sections) do
    if section.id ~= line.section and units.left(section.id) > 0 then
      detail['left.' .. section.id] = units.left(section.id)
    end
  end
  return refuse('SECTION_SOLD_OUT', detail)
end

-- Whether the counts have what a line wants. Earlier lines may want units of the same section for the same use,
-- or even of the same type.
local function count_refusal(lines, place)
  local line = lines[place]
  local for_use, of_type = line.quantity, line.quantity
  for before = 1, place - 1 do
    if lines[before].section == line.section then
      if lines[before].use == line.use then
        for_use = for_use + lines[before].quantity
      end
      if lines[before].ticket_type == line.ticket_type then
        of_type = of_type + lines[before].quantity
      end
    end
  end
  local use_left, type_left = units.left(line.section, line.use), units.left_of_type(line.section, line.ticket_type)
  if for_use > use_left or of_type > type_left then
    return section_refusal(line, math.min(use_left, type_left))
  end
end

-- Gives each line of a seated section that names seats those, or answers why it cannot have them: whoever names seats
-- is told of those first. The others choose among what is left.
local function named_refusal(lines, chosen)
  for place = 1, #lines do
    local line = lines[place]
    if line.wanted and seats.of(line.section) then
      local refusal = seats.named_refusal(line, chosen[line.section])
      if refusal then return refusal end
      line.units = seats.choose(line, lines, chosen[line.section])
    end
  end
end

-- Gives each line of a seated section its seats, or answers why it has none.
local function seats_refusal(lines)
  local chosen = {}
  for place = 1, #lines do
    chosen[lines[place].section] = { blocks = {} }
  end
  local refusal = named_refusal(lines, chosen)
  if refusal then return refusal end
  for place = 1, #lines do
    local line = lines[place]
    refusal = count_refusal(lines, place)
    if seats.of(line.section) and not line.wanted and not refusal then
      line.units, refusal = seats.choose(line, lines, chosen[line.section])
    end
    if refusal then return refusal end
  end
end

-- How many units that may be promised to others the lines take away.
local function taken_from_all(lines)
  local count, for_few = 0, {}
  for place = 1, #lines do
    local line = lines[place]
    if line.use then
      for_few[line.section] = (for_few[line.section] or 0) + line.quantity
    else
      count = count + line.quantity
    end
  end
  for id, quantity in pairs(for_few) do
    count = count + units.missed(id, quantity)
  end
  return count
end

local function promised_refusal(promise, lines)
  local count = promise and 0 or taken_from_all(lines)
  if count > 0 and count > units.unpromised() then
    return refuse('SOLD_OUT', { left = math.max(0, units.unpromised()), retry_after_ms = may_return_in() })
  end
end

local function stock_refusal(promise, lines)
  return promised_refusal(promise, lines) or seats_refusal(lines)
end

-- Taking and giving back is counted, or one buyer could keep units from all others for ever: with a line each
-- turn may take a number of times, without one each buyer may within the time that a hold lasts.
local function taken(buyer, promise)
  if promise then
    return promise.holds, promise.turn_ends
  end
  local counts = view.buyer(buyer)
  if view.now < counts.window_ends then
    return counts.window_holds, counts.window_ends
  end
  return 0, view.now + view.def.hold_ms
end

local function times_refusal(buyer, promise)
  local times, window_ends = taken(buyer, promise)
  if times >= view.def.holds_per_turn then
    return refuse('HOLD_LIMIT', { retry_after_ms = window_ends - view.now })
  end
end

-- Counts one taking, by a hold or by an order.
function rights.count(buyer, promise)
  local times, window_ends = taken(buyer, promise)
  if promise then
    promise.holds = times + 1
  else
    local counts = view.buyer(buyer)
    counts.window_holds, counts.window_ends = times + 1, window_ends
    view.save_buyer(buyer, counts)
  end
end

-- Each refused order is kept with its reason: so many of one buyer are, within the time that a hold lasts.
function rights.order_refusal(buyer)
  local counts = view.buyer(buyer)
  if view.now < counts.refused_ends and counts.refused >= envelope.refused_orders then
    return refuse('ORDER_LIMIT', { retry_after_ms = counts.refused_ends - view.now })
  end
end

-- Counts one refused order.
function rights.count_refused(buyer)
  local counts = view.buyer(buyer)
  if view.now >= counts.refused_ends then
    counts.refused, counts.refused_ends = 0, view.now + view.def.hold_ms
  end
  counts.refused = counts.refused + 1
  view.save_buyer(buyer, counts)
end

-- Gives each line of a seated section the very seats that it names, or answers why it cannot have them.
local function paid_refusal(lines)
  for place = 1, #lines do
    local line, refusal = lines[place], nil
    if seats.of(line.section) then
      refusal = seats.taken_refusal(line, {})
      line.units = line.wanted
    end
    refusal = refusal or count_refusal(lines, place)
    if refusal then return refusal end
  end
end

-- Why units that were paid for cannot be had again, or nil: neither turn nor window is asked for.
function rights.to_reacquire(buyer, lines, quantity, beyond_limit)
  for _, line in ipairs(lines) do
    if not view.def.by_section[line.section] then
      return refuse('SECTION_NOT_FOUND', { section = line.section })
    end
    if not units.ticket_type(line.section, line.ticket_type) then
      return refuse('TICKET_TYPE_NOT_FOUND', { section = line.section, ticket_type = line.ticket_type })
    end
    if seats.of(line.section) and not units.has(line.section, line.wanted) then
      return refuse('SECTION_SOLD_OUT', { section = line.section, left = 0 })
    end
  end
  return not beyond_limit and limit_refusal(buyer, quantity) or promised_refusal(nil, lines) or paid_refusal(lines)
end

-- Everything that stands between a buyer and `items`: lines, how many, the promise to spend; or a refusal.
function rights.to_take(buyer, place, items)
  local refusal = rights.taking_refusal()
  if refusal then return nil, 0, nil, refusal end
  local lines, quantity
  lines, quantity, refusal = lines_of(items)
  if refusal then return nil, 0, nil, refusal end
  local promise
  promise, refusal = live_promise(buyer, place)
  if refusal then return nil, 0, nil, refusal end
  refusal = limit_refusal(buyer, quantity) or allowance_refusal(promise, quantity)
    or stock_refusal(promise, lines) or times_refusal(buyer, promise)
  return lines, quantity, promise, refusal
end
