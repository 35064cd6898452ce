-- Purpose: The units of every section: which are free, held, sold or kept for a claim, and how many may
--   still be taken. A section's units are numbered from 0; those never used are above `fresh`, those that
--   came back are in its list `returned`, and its map `units` has two bits for each.
-- KEYS: sections
-- ARGV: none
-- Returns: none
-- What may be taken in all sections together, and what is held or claimed in them.
units.sellable, units.under_way = 0, 0

local FREE, HELD, SOLD, BLOCKED = 0, 1, 2, 3
local UNITS_PER_CALL = 1000

local sections = {}
local left = {}
local changed = {}
local came_back = {}   -- by section: units freed in this run and not taken again
local taken_back = {}  -- by section: how many were taken from the list `returned`

local function type_of(id, ticket_type)
  local types = view.def.by_section[id].types
  for place = 1, #types do
    if types[place].id == ticket_type then
      return types[place]
    end
  end
end

local function free_in(id)
  local section = sections[id]
  return section.capacity - section.held - section.sold - section.blocked - section.claimed
end

-- What may still be sold of a section: with a quota on every type, no more than the quotas allow.
local function left_of(id)
  local types, used, by_quota = view.def.by_section[id].types, sections[id].used, 0
  for place = 1, #types do
    local ticket_type = types[place]
    if ticket_type.quota == 0 then
      return free_in(id)
    end
    by_quota = by_quota + math.max(0, ticket_type.quota - (used[ticket_type.id] or 0))
  end
  return math.min(free_in(id), by_quota)
end

-- Follows every change of a section's counts, so that the totals are always at hand.
local function note(id)
  local now_left = left_of(id)
  units.sellable = units.sellable + now_left - (left[id] or 0)
  left[id] = now_left
  changed[id] = true
end

local function use(id, ticket_type, count)
  local used = sections[id].used
  used[ticket_type] = (used[ticket_type] or 0) + count
end

-- Makes `def` the definition that the rest of the run goes by.
local function go_by(def)
  view.def = def
  def.by_section = {}
  for _, section in ipairs(def.sections) do
    local id = section.id
    def.by_section[id] = section
    came_back[id], taken_back[id] = came_back[id] or {}, taken_back[id] or 0
  end
end

function units.open()
  go_by(view.def)
  local stored = redis.call('HGETALL', keys.sections)
  for i = 1, #stored, 2 do
    local id = stored[i]
    sections[id] = cmsgpack.unpack(stored[i + 1])
    left[id] = left_of(id)
    units.sellable = units.sellable + left[id]
    units.under_way = units.under_way + sections[id].held + sections[id].claimed
  end
end

-- Takes new and grown sections into the store; answers how many units there are in all.
function units.define(def)
  go_by(def)
  local capacity = 0
  for _, section in ipairs(def.sections) do
    sections[section.id] = sections[section.id]
      or { capacity = 0, fresh = 0, held = 0, sold = 0, blocked = 0, claimed = 0, used = {} }
    sections[section.id].capacity = section.capacity
    capacity = capacity + section.capacity
    note(section.id)
  end
  return capacity
end

-- Every section that the store has, by id.
function units.sections() return sections end

-- How many may be taken of a section, of one of its types, and of all that is not promised to anyone.
function units.left(id) return left[id] end
function units.left_of_type(id, ticket_type)
  local quota = type_of(id, ticket_type).quota
  if quota == 0 then
    return free_in(id)
  end
  return math.min(free_in(id), quota - (sections[id].used[ticket_type] or 0))
end
function units.unpromised() return units.sellable - view.meta.promised end

function units.ticket_type(id, wanted)
  local types = view.def.by_section[id].types
  if wanted == nil then
    return types[1]
  end
  return type_of(id, wanted)
end

-- Keeps units of a section for an order, without choosing which.
function units.claim(line)
  sections[line.section].claimed = sections[line.section].claimed + line.quantity
  units.under_way = units.under_way + line.quantity
  use(line.section, line.ticket_type, line.quantity)
  note(line.section)
end

function units.unclaim(line)
  sections[line.section].claimed = sections[line.section].claimed - line.quantity
  units.under_way = units.under_way - line.quantity
  use(line.section, line.ticket_type, -line.quantity)
  note(line.section)
end

-- Units never used first: taking those needs no list.
local function choose(id, quantity)
  local section, chosen = sections[id], {}
  for unit = section.fresh, math.min(section.fresh + quantity, section.capacity) - 1 do
    chosen[#chosen + 1] = unit
  end
  section.fresh = section.fresh + #chosen
  while #chosen < quantity and #came_back[id] > 0 do
    chosen[#chosen + 1] = table.remove(came_back[id])
  end
  if #chosen < quantity then
    local from = taken_back[id]
    local more = redis.call('LRANGE', keys.returned[id], from, from + quantity - #chosen - 1)
    for _, unit in ipairs(more) do
      chosen[#chosen + 1] = tonumber(unit)
    end
    taken_back[id] = from + #more
  end
  assert(#chosen == quantity, 'the ledger contradicts itself: ' .. id .. ' has fewer units than it counts')
  return chosen
end

-- FREE → HELD for one line of a hold; adds the units to `held`, with the price that is fixed now, or that the line
-- says was fixed before.
function units.hold(line, held)
  local id, ticket_type, quantity = line.section, line.ticket_type, line.quantity
  local chosen, price, before = choose(id, quantity), line.price or type_of(id, ticket_type).price, #held
  for place = 1, quantity do
    maps.move(id, chosen[place], FREE, HELD)
    held[before + place] = { section = id, unit = chosen[place], ticket_type = ticket_type, price = price }
  end
  sections[id].held = sections[id].held + quantity
  units.under_way = units.under_way + quantity
  use(id, ticket_type, quantity)
  note(id)
end

-- HELD → SOLD.
function units.sell(held)
  for _, unit in ipairs(held) do
    local section = sections[unit.section]
    section.held = section.held - 1
    section.sold = section.sold + 1
    units.under_way = units.under_way - 1
    maps.move(unit.section, unit.unit, HELD, SOLD)
    changed[unit.section] = true
  end
end

local function free(unit, from)
  maps.move(unit.section, unit.unit, from, FREE)
  table.insert(came_back[unit.section], unit.unit)
  use(unit.section, unit.ticket_type, -1)
  note(unit.section)
end

-- HELD → FREE.
function units.give_back(held)
  for _, unit in ipairs(held) do
    sections[unit.section].held = sections[unit.section].held - 1
    units.under_way = units.under_way - 1
    free(unit, HELD)
  end
end

-- SOLD → FREE.
function units.take_back(sold)
  for _, unit in ipairs(sold) do
    sections[unit.section].sold = sections[unit.section].sold - 1
    free(unit, SOLD)
  end
end

-- Fills in what a unit that came from elsewhere is: HELD, SOLD or BLOCKED.
function units.put(placed, state)
  local number = ({ HELD = HELD, SOLD = SOLD, BLOCKED = BLOCKED })[state]
  local count = state:lower()
  for _, unit in ipairs(placed) do
    local section = sections[unit.section]
    maps.move(unit.section, unit.unit, FREE, number)
    section[count] = section[count] + 1
    if state ~= 'BLOCKED' then
      use(unit.section, unit.ticket_type, 1)
    end
    units.under_way = units.under_way + (state == 'HELD' and 1 or 0)
    note(unit.section)
  end
end

-- Fills in which units of a section were never used, from `fresh` on, and some of those that came back.
function units.put_free(id, fresh, returned)
  sections[id].fresh = fresh
  for _, unit in ipairs(returned) do
    table.insert(came_back[id], unit)
  end
  note(id)
end

-- Takes a unit that is free out of those that are handed out next, wherever it is among them.
local function pick(id, unit)
  local section = sections[id]
  if unit >= section.fresh then
    for passed = section.fresh, unit - 1 do
      table.insert(came_back[id], passed)
    end
    section.fresh = unit + 1
    return
  end
  for place, back in ipairs(came_back[id]) do
    if back == unit then
      table.remove(came_back[id], place)
      return
    end
  end
  redis.call('LREM', keys.returned[id], 1, unit)
end

-- Whether all of these units are there and free.
function units.are_free(wanted)
  for _, unit in ipairs(wanted) do
    local section = sections[unit.section]
    if not section or unit.unit >= section.capacity or maps.state(unit.section, unit.unit) ~= FREE then
      return false
    end
  end
  return true
end

-- FREE → HELD of these very units, as `hold` does of any.
function units.hold_these(wanted)
  for _, unit in ipairs(wanted) do
    pick(unit.section, unit.unit)
  end
  units.put(wanted, 'HELD')
end

-- One section's counts as the contract names them.
function units.counts(id)
  local section = sections[id]
  return { section = id, capacity = section.capacity, free = free_in(id), held = section.held,
           sold = section.sold, blocked = section.blocked }
end

local function write_returned(id)
  if taken_back[id] > 0 then
    redis.call('LTRIM', keys.returned[id], taken_back[id], -1)
  end
  local back = came_back[id]
  for first = 1, #back, UNITS_PER_CALL do
    redis.call('RPUSH', keys.returned[id], unpack(back, first, math.min(#back, first + UNITS_PER_CALL - 1)))
  end
end

function units.flush()
  for id in pairs(changed) do
    redis.call('HSET', keys.sections, id, cmsgpack.pack(sections[id]))
    write_returned(id)
  end
end
