-- Purpose: The units of every section: which are free, held, sold or kept for a claim, and how many may
--   still be taken. A section's units are numbered from 0, and its map `units` has two bits for each. In a
--   standing section those never used are above `fresh`, and those that came back are in its list `returned`, beside
--   some that were taken by their number since; in a seated one lib/seats.lua chooses, and a seat that a claim keeps
--   is HELD in the map.
-- KEYS: sections
-- ARGV: none
-- Returns: none
-- What may be taken in all sections together, and what is held or claimed in them.
units.sellable, units.under_way = 0, 0

local FREE, HELD, SOLD, BLOCKED = 0, 1, 2, 3
local FREE_OF_USE = { ACCESSIBLE = 'accessible', COMPANION = 'companion' }
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

-- What is free for anyone: no accessible or companion seat before these are released.
local function free_for_all(id)
  local section = sections[id]
  if not section.accessible or seats.are_released() then
    return free_in(id)
  end
  return free_in(id) - section.accessible - section.companion
end

-- How many tickets the quotas leave of a section; without end where one of its types has none.
local function quota_left(id)
  local types, used, count = view.def.by_section[id].types, sections[id].used, 0
  for place = 1, #types do
    local ticket_type = types[place]
    if ticket_type.quota == 0 then
      return math.huge
    end
    count = count + math.max(0, ticket_type.quota - (used[ticket_type.id] or 0))
  end
  return count
end

-- What may still be sold of a section to anyone.
local function left_of(id) return math.min(free_for_all(id), quota_left(id)) end

-- What is free for whoever is promised any unit. Who holds an accessible or companion seat spent such a promise, and
-- gets it back with the seat: as long as that may be, a unit is kept for it. Of the quotas the seat keeps one itself.
local function free_to_promise(id)
  local is_kept = view.def.line and sections[id].way and not seats.are_released()
  return free_for_all(id) - (is_kept and sections[id].way or 0)
end

local function promisable_of(id) return math.min(free_to_promise(id), quota_left(id)) end

-- Follows every change of a section's counts, so that the totals are always at hand.
local function note(id)
  local now_left = promisable_of(id)
  units.sellable = units.sellable + now_left - (left[id] or 0)
  left[id] = now_left
  changed[id] = true
end

local function is_seated(id) return view.def.by_section[id].seats ~= nil end

-- Every move of a unit's state goes through here. What is counted by use is so by the state that a seat was in.
local function move(id, unit, from, to)
  changes.cost = changes.cost + 1
  maps.move(id, unit, from, to)
  if is_seated(id) then
    seats.touch(id, unit)
    local section, name = sections[id], FREE_OF_USE[seats.use_of(id, unit)]
    if name then
      section[name] = section[name] + (to == FREE and 1 or 0) - (from == FREE and 1 or 0)
      section.way = section.way + (to == HELD and 1 or 0) - (from == HELD and 1 or 0)
    end
  end
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
    left[id] = promisable_of(id)
    units.sellable = units.sellable + left[id]
    units.under_way = units.under_way + sections[id].held + sections[id].claimed
  end
end

-- Takes new and grown sections into the store; answers how many units there are in all.
function units.define(def, layouts)
  go_by(def)
  local capacity = 0
  for _, section in ipairs(def.sections) do
    local id = section.id
    if not sections[id] then
      sections[id] = { capacity = 0, fresh = 0, held = 0, sold = 0, blocked = 0, claimed = 0, used = {} }
      if section.seats then
        sections[id].accessible, sections[id].companion = section.seats.units[2], section.seats.units[3]
        sections[id].way = 0
        seats.define(id, layouts[id].layout, layouts[id].runs)
      end
    end
    sections[id].capacity = section.capacity
    capacity = capacity + section.capacity
    note(section.id)
  end
  return capacity
end

-- Every section that the store has, by id.
function units.sections() return sections end

-- How many may be taken of a section, for a use or by anyone, and of one of its types, and of all that is not
-- promised to anyone.
function units.left(id, use)
  local name = FREE_OF_USE[use]
  return name and sections[id][name] or left_of(id)
end
function units.left_of_type(id, ticket_type)
  local quota = type_of(id, ticket_type).quota
  if quota == 0 then
    return free_in(id)
  end
  return math.min(free_in(id), quota - (sections[id].used[ticket_type] or 0))
end
function units.unpromised() return units.sellable - view.meta.promised end

-- How many fewer of a section may be promised once so many of its seats for few are taken without a promise: their
-- tickets are of the quotas that are anyone's.
function units.missed(id, quantity)
  return math.max(0, quantity - math.max(0, quota_left(id) - free_to_promise(id)))
end

-- Free seats that are anyone's later on in the sale.
function units.to_release()
  local count, release_ms = 0, view.def.release_ms
  if release_ms and release_ms < view.def.closes_ms and not seats.are_released() then
    for _, section in pairs(sections) do
      count = count + (section.accessible or 0) + (section.companion or 0)
    end
  end
  return count
end

function units.ticket_type(id, wanted)
  local types = view.def.by_section[id].types
  if wanted == nil then
    return types[1]
  end
  return type_of(id, wanted)
end

-- Keeps units of a section for an order: the seats of its line, or so many without choosing which.
function units.claim(line)
  for _, unit in ipairs(line.units or {}) do
    move(line.section, unit, FREE, HELD)
  end
  sections[line.section].claimed = sections[line.section].claimed + line.quantity
  units.under_way = units.under_way + line.quantity
  use(line.section, line.ticket_type, line.quantity)
  note(line.section)
end

function units.unclaim(line)
  for _, unit in ipairs(line.units or {}) do
    move(line.section, unit, HELD, FREE)
  end
  sections[line.section].claimed = sections[line.section].claimed - line.quantity
  units.under_way = units.under_way - line.quantity
  use(line.section, line.ticket_type, -line.quantity)
  note(line.section)
end

-- Units never used first: taking those needs no list. Of those that came back some were taken by their number since
-- then, and may have come back once more: who is not free is passed over, and nobody comes twice.
local function choose(id, quantity)
  local section, chosen, is_chosen = sections[id], {}, {}
  local function add(unit)
    if maps.state(id, unit) == FREE and not is_chosen[unit] then
      chosen[#chosen + 1], is_chosen[unit] = unit, true
    end
  end
  for unit = section.fresh, math.min(section.fresh + quantity, section.capacity) - 1 do
    chosen[#chosen + 1] = unit
  end
  section.fresh = section.fresh + #chosen
  while #chosen < quantity and #came_back[id] > 0 do
    add(table.remove(came_back[id]))
  end
  while #chosen < quantity do
    local from = taken_back[id]
    local more = redis.call('LRANGE', keys.returned[id], from, from + quantity - #chosen - 1)
    assert(#more > 0, 'the ledger contradicts itself: ' .. id .. ' has fewer units than it counts')
    for _, unit in ipairs(more) do
      add(tonumber(unit))
    end
    taken_back[id] = from + #more
  end
  return chosen
end

-- FREE → HELD for one line of a hold; adds the units to `held`, with the price that is fixed now, or that the line
-- says was fixed before.
function units.hold(line, held)
  local id, ticket_type, quantity = line.section, line.ticket_type, line.quantity
  local chosen, price, before = line.units or choose(id, quantity), line.price or type_of(id, ticket_type).price, #held
  for place = 1, quantity do
    move(id, chosen[place], FREE, HELD)
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
    move(unit.section, unit.unit, HELD, SOLD)
    note(unit.section)
  end
end

local function free(unit, from)
  -- It is listed and counted apart, unlike the units of a hold, which are taken together.
  changes.cost = changes.cost + 1
  move(unit.section, unit.unit, from, FREE)
  if not is_seated(unit.section) then
    table.insert(came_back[unit.section], unit.unit)
  end
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

-- How many units of a section are free, how many of those are beyond what the quotas let anyone buy, and which of
-- some seats are kept from most buyers.
function units.free(id) return free_in(id) end
function units.beyond_quotas(id) return free_to_promise(id) - promisable_of(id) end
function units.reserved(id, wanted)
  local count = 0
  for _, unit in ipairs(seats.are_released() and {} or wanted or {}) do
    count = count + (FREE_OF_USE[seats.use_of(id, unit)] and 1 or 0)
  end
  return count
end

-- FREE → BLOCKED for one item of a block; adds the units to `blocked`.
function units.block(item, blocked)
  local id = item.section
  for _, unit in ipairs(item.units or choose(id, item.quantity)) do
    move(id, unit, FREE, BLOCKED)
    blocked[#blocked + 1] = { section = id, unit = unit }
  end
  sections[id].blocked = sections[id].blocked + item.quantity
  note(id)
end

-- BLOCKED → FREE.
function units.unblock(blocked)
  for _, unit in ipairs(blocked) do
    move(unit.section, unit.unit, BLOCKED, FREE)
    if not is_seated(unit.section) then
      table.insert(came_back[unit.section], unit.unit)
    end
    sections[unit.section].blocked = sections[unit.section].blocked - 1
    note(unit.section)
  end
end

-- Fills in what a unit that came from elsewhere is: HELD, SOLD or BLOCKED.
function units.put(placed, state)
  local number = ({ HELD = HELD, SOLD = SOLD, BLOCKED = BLOCKED })[state]
  local count = state:lower()
  for _, unit in ipairs(placed) do
    local section = sections[unit.section]
    move(unit.section, unit.unit, FREE, number)
    section[count] = section[count] + 1
    if state ~= 'BLOCKED' then
      use(unit.section, unit.ticket_type, 1)
    end
    units.under_way = units.under_way + (state == 'HELD' and 1 or 0)
    note(unit.section)
  end
end

-- Fills in which units of a standing section were never used, from `fresh` on, and some of those that came back.
function units.put_free(id, fresh, returned)
  sections[id].fresh = fresh
  for _, unit in ipairs(returned) do
    table.insert(came_back[id], unit)
  end
  note(id)
end

-- Sees to it that a unit that is free is not handed out as one never used; seats are found by the map alone. Where it
-- came back it stays among those: looking for it there would take the longer the more they are.
local function pick(id, unit)
  local section = sections[id]
  if is_seated(id) or unit < section.fresh then return end
  for passed = section.fresh, unit - 1 do
    table.insert(came_back[id], passed)
  end
  section.fresh = unit + 1
end

-- Whether a section is large enough to have all of these units.
function units.has(id, wanted)
  return math.max(unpack(wanted)) < sections[id].capacity
end

-- Whether all of these units are there and free.
function units.are_free(wanted)
  for _, unit in ipairs(wanted) do
    local section = sections[unit.section]
    if unit.unit >= section.capacity or maps.state(unit.section, unit.unit) ~= FREE then
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
