-- Purpose: Seated sections: which seats are the best for whom. A block is a run of neighbours in one row, all for
--   the same use; `layout` says where each is, and `runs` has a byte for each with its longest free run, so that
--   looking for seats side by side is a search in one short string. docs/seats.md explains both.
-- KEYS: none
-- ARGV: none
-- Returns: none
local UNIT_BYTES, HEAD_BYTES, NEAR = 3, 12, 8
local RECORD_BYTES = HEAD_BYTES + NEAR * UNIT_BYTES
local NO_BLOCK = 16777215
-- A byte of `runs` tells lengths up to this one; a longer run is looked at itself.
local LONGEST = 63
-- So many blocks that have what is wanted are compared; those that follow are farther from the focus.
local COMPARED = 16
-- Looking for the best seats costs about as much as this many units of the budget, and summing up a block as these.
local COST, SUM_COST = 12, 3
local USES = { ORDINARY = 1, ACCESSIBLE = 2, COMPANION = 3 }
local FREE = 0

local houses = {}
local written = {}

local function house_of(id)
  local house = houses[id]
  if not house then
    house = { records = {}, moved = {}, bytes = {}, starts = {} }
    houses[id] = house
  end
  return house
end

function seats.of(id) return view.def.by_section[id].seats end

-- Gives a section that is new to the store its layout.
function seats.define(id, layout, runs)
  written[id] = { layout = layout, runs = runs }
  house_of(id).runs = runs
end

-- ORDINARY, ACCESSIBLE or COMPANION.
function seats.use_of(id, unit)
  local counts = seats.of(id).units
  if unit < counts[1] then return 'ORDINARY' end
  return unit < counts[1] + counts[2] and 'ACCESSIBLE' or 'COMPANION'
end

-- Whether accessible and companion seats are sold to anyone by now.
function seats.are_released()
  return view.def.release_ms ~= nil and view.now >= view.def.release_ms
end

local function layout_range(id, first, last)
  local new = written[id]
  return new and new.layout:sub(first + 1, last + 1) or redis.call('GETRANGE', keys.layout[id], first, last)
end

local function block_of(id, unit)
  return struct.unpack('>I3', layout_range(id, unit * UNIT_BYTES, unit * UNIT_BYTES + UNIT_BYTES - 1))
end

-- A block: its first unit, how many it has, how far from the focus its best spot is, where that is in half seats
-- from the first, and how far apart its seats are.
local function record_of(id, number)
  local house = house_of(id)
  local record = house.records[number]
  if not record then
    local counts = seats.of(id).units
    local at = (counts[1] + counts[2] + counts[3]) * UNIT_BYTES + number * RECORD_BYTES
    -- The next record's first unit is where this block ends.
    local text = layout_range(id, at, at + RECORD_BYTES + 3)
    local first, depth, middle, spacing = struct.unpack('>I4I4I2I2', text)
    record = { first = first, depth = depth, middle = middle, spacing = spacing, text = text,
               count = struct.unpack('>I4', text, RECORD_BYTES + 1) - first }
    house.records[number] = record
  end
  return record
end

local function near(record)
  local blocks = {}
  for place = 1, NEAR do
    local number = struct.unpack('>I3', record.text, HEAD_BYTES + (place - 1) * UNIT_BYTES + 1)
    if number == NO_BLOCK then break end
    blocks[place] = number
  end
  return blocks
end

-- The free runs of a block as pairs of first unit and length; what this hold has chosen already is not free.
local function free_runs(id, number, chosen)
  local record, runs, first = record_of(id, number), {}, nil
  local last = record.first + record.count - 1
  for unit = record.first, last + 1 do
    if unit <= last and maps.state(id, unit) == FREE and not chosen[unit] then
      first = first or unit
    elseif first then
      runs[#runs + 1] = { first = first, count = unit - first }
      first = nil
    end
  end
  return runs
end

-- ---- the summary ----

-- A block whose seats move is summed up once when the run ends, or when somebody looks for seats before.
function seats.touch(id, unit)
  local moved, number = house_of(id).moved, block_of(id, unit)
  if not moved[number] then
    moved[number] = true
    changes.cost = changes.cost + SUM_COST
  end
end

local function byte_of(id, number)
  local longest, has_shorter = 0, false
  local runs = free_runs(id, number, {})
  for place = 1, #runs do longest = math.max(longest, runs[place].count) end
  for place = 1, #runs do
    has_shorter = has_shorter or runs[place].count == longest - 1
  end
  if longest >= LONGEST then return string.char(128 + 2 * LONGEST) end
  return string.char(128 + 2 * longest + (has_shorter and 1 or 0))
end

-- Brings the bytes of the blocks that were touched up to date.
local function settle(id)
  local house = house_of(id)
  for number in pairs(house.moved) do
    local byte = byte_of(id, number)
    house.bytes[number] = byte
    if house.runs then
      house.runs = house.runs:sub(1, number) .. byte .. house.runs:sub(number + 2)
    end
    for _, start in pairs(house.starts) do
      if number >= start.from then start.at = math.min(start.at, number + 1) end
    end
  end
  house.moved = {}
end

local function summary(id)
  local house = house_of(id)
  if not house.runs then
    house.runs = redis.call('GET', keys.runs[id])
    for number, byte in pairs(house.bytes) do
      house.runs = house.runs:sub(1, number) .. byte .. house.runs:sub(number + 2)
    end
  end
  settle(id)
  return house.runs
end

-- What is left to be found out for the writes, before the first of them.
function seats.settle()
  for id in pairs(houses) do
    settle(id)
  end
end

function seats.flush()
  for id, new in pairs(written) do
    redis.call('SET', keys.layout[id], new.layout)
    redis.call('SET', keys.runs[id], new.runs)
  end
  for id, house in pairs(houses) do
    for number, byte in pairs(house.bytes) do
      redis.call('SETRANGE', keys.runs[id], number, byte)
    end
  end
end

-- ---- choosing ----

-- Bytes of blocks with a free run of `count`. A clean one leaves no seat alone: it is of just that length, or of
-- two more; where the longest is of one more, another must be of just that length.
local function pattern(count, is_clean)
  local low = 128 + 2 * count
  if not is_clean then
    return '[' .. string.char(math.min(low, 254)) .. '-\255]'
  end
  return '[' .. string.char(low, low + 1, low + 3) .. '-\255]'
end

-- Where in the summary the first block of a range may be that has what a pattern wants. What is nearest is sold first, so
-- that each look would begin with all that is gone: what was in vain once in a run is not looked at again.
local function first_of(id, wanted, range)
  local runs, starts, key = summary(id), house_of(id).starts, range.from .. ' ' .. wanted
  local start = starts[key]
  if not start then
    start = { from = range.from, at = range.from + 1 }
    starts[key] = start
  end
  start.at = runs:find(wanted, start.at) or #runs + 1
  return runs, start.at
end

-- How far from the focus seats are that are `along` half pixels from the best spot of their block: the less, the
-- better. From the front rows count before all else, and a row's depth is more than any row's width.
local function distance(id, record, along)
  if seats.of(id).focus == 'CENTRE' then
    return 4 * record.depth * record.depth + along * along
  end
  return 2 * record.depth + along
end

local function score(id, record, first, count)
  return distance(id, record, math.abs(2 * (first - record.first) + count - 1 - record.middle) * record.spacing)
end

-- The score that no seats of the block can be below.
local function nearest(id, record)
  return distance(id, record, 0)
end

-- The best place for `count` in a block, if there is one; a clean one leaves no single seat beside it.
local function best_in(id, number, count, is_clean, chosen)
  local record, best = record_of(id, number), nil
  local runs = free_runs(id, number, chosen)
  for place = 1, #runs do
    local run = runs[place]
    for first = run.first, run.first + run.count - count do
      local before, after = first - run.first, run.first + run.count - first - count
      if not is_clean or before ~= 1 and after ~= 1 then
        local found = score(id, record, first, count)
        if not best or found < best.score then
          best = { block = number, first = first, count = count, score = found }
        end
      end
    end
  end
  return best
end

-- The better of two places, either of which may be none; of equal ones that of the first block.
local function better(one, other)
  if not one or not other then return one or other end
  if one.score ~= other.score then return one.score < other.score and one or other end
  return one.block < other.block and one or other
end

-- The best place in the blocks of a range, which are in the order of how near they can be.
local function best_of(id, range, count, is_clean, chosen)
  local wanted = pattern(math.min(count, LONGEST), is_clean and count + 2 <= LONGEST)
  local runs, at = first_of(id, wanted, range)
  local compared, best = 0, nil
  -- The summary does not know what this hold has chosen already: those few blocks are looked at themselves.
  for number in pairs(chosen.blocks) do
    if number >= range.from and number < range.to then
      best = better(best, best_in(id, number, count, is_clean, chosen))
    end
  end
  while compared < COMPARED and at and at <= range.to do
    if best and nearest(id, record_of(id, at - 1)) > best.score then break end
    best = better(best, best_in(id, at - 1, count, is_clean, chosen))
    compared = compared + (best and 1 or 0)
    at = runs:find(wanted, at + 1)
  end
  return best
end

-- The blocks that are for a use; for anyone those of all uses once they are released, ordinary ones first.
local function ranges_of(id, use)
  local blocks, ranges, from = seats.of(id).blocks, {}, 0
  for place = 1, 3 do
    local is_for = USES[use or 'ORDINARY'] == place or use == nil and seats.are_released()
    if is_for and blocks[place] > 0 then
      ranges[#ranges + 1] = { from = from, to = from + blocks[place] }
    end
    from = from + blocks[place]
  end
  return ranges
end

-- The best place for `count` side by side, or nil: nobody is left sitting alone as long as that can be.
local function side_by_side(id, ranges, count, chosen)
  for _, is_clean in ipairs({ true, false }) do
    for place = 1, #ranges do
      local found = best_of(id, ranges[place], count, is_clean, chosen)
      if found then return found end
    end
  end
end

local function has_run(id, ranges, count, chosen)
  local wanted = pattern(math.min(count, LONGEST), false)
  for place = 1, #ranges do
    local runs, at = first_of(id, wanted, ranges[place])
    while at and at <= ranges[place].to do
      if best_in(id, at - 1, count, false, chosen) then return true end
      at = runs:find(wanted, at + 1)
    end
  end
  return false
end

-- How many side by side there are, at most `most`.
local function longest_run(id, ranges, most, chosen)
  local low, high = 0, most
  while low < high do
    local count = math.ceil((low + high) / 2)
    if has_run(id, ranges, count, chosen) then low = count else high = count - 1 end
  end
  return low
end

local function is_within(ranges, number)
  for place = 1, #ranges do
    if number >= ranges[place].from and number < ranges[place].to then return true end
  end
  return false
end

-- The best place for up to `count` in the blocks near one; of several, in that which takes the most.
local function nearby(id, ranges, number, count, chosen)
  local best
  for _, other in ipairs(near(record_of(id, number))) do
    if is_within(ranges, other) then
      local longest = 0
      for _, run in ipairs(free_runs(id, other, chosen)) do longest = math.max(longest, run.count) end
      local size = math.min(longest, count)
      if size > 0 and (not best or size > best.count) then
        best = best_in(id, other, size, true, chosen) or best_in(id, other, size, false, chosen)
      end
    end
  end
  return best
end

local function take(found, chosen, units)
  chosen.blocks[found.block] = true
  for unit = found.first, found.first + found.count - 1 do
    chosen[unit] = true
    units[#units + 1] = unit
  end
end

-- A group that finds no room side by side: as large a part as there is, then the others in the rows around, and
-- nobody alone if a part can spare one. Beside a block, as near to that as can be. nil where there are too few.
local function apart(id, ranges, count, chosen, beside)
  local units, left, least = {}, count, beside and 1 or 2
  while left > 0 do
    local found = beside and nearby(id, ranges, beside, left, chosen)
    if not found or found.count < math.min(least, left) then
      local size = longest_run(id, ranges, left, chosen)
      if size == 0 then return nil end
      if left - size == 1 and size > 2 then size = size - 1 end
      found = side_by_side(id, ranges, size, chosen)
    end
    take(found, chosen, units)
    left = left - found.count
    beside = beside or found.block
  end
  return units
end

-- ---- what a line of a hold gets ----

local function not_adjacent(line, ranges, chosen)
  local detail = { section = line.section, together = longest_run(line.section, ranges, line.quantity - 1, chosen) }
  for _, section in ipairs(view.def.sections) do
    if units.left(section.id) > 0 then detail['left.' .. section.id] = units.left(section.id) end
  end
  return refuse('NOT_ADJACENT', detail)
end

-- Whether seats by name are taken, by this hold or another one: with those that are; or nil.
function seats.taken_refusal(line, chosen)
  local id, taken = line.section, {}
  for _, unit in ipairs(line.wanted) do
    if maps.state(id, unit) ~= FREE or chosen[unit] then
      taken[#taken + 1] = unit
    end
  end
  return #taken > 0 and refuse('SEAT_TAKEN', { section = id, taken = taken }) or nil
end

-- Why seats by name cannot be had, with those that cannot; or nil.
function seats.named_refusal(line, chosen)
  local refusal = seats.taken_refusal(line, chosen)
  if refusal then return refusal end
  local id, reserved = line.section, {}
  for _, unit in ipairs(line.wanted) do
    if seats.use_of(id, unit) ~= (line.use or 'ORDINARY') and not seats.are_released() then
      reserved[#reserved + 1] = unit
    end
  end
  if #reserved > 0 then
    return refuse('SEAT_RESERVED', { section = id, seats = reserved, released_at = view.def.release_ms })
  end
end

-- The block of an accessible seat that the same hold takes: companions belong beside it.
local function beside(line, lines)
  for place = 1, #lines do
    local other = lines[place]
    if other.section == line.section and other.use == 'ACCESSIBLE' and other.units then
      return block_of(other.section, other.units[1])
    end
  end
end

-- The units of one line, beside those of the lines before it; or a refusal. There are enough, and those that it
-- names are free. Notes them in `chosen`, and changes nothing else.
function seats.choose(line, lines, chosen)
  local id = line.section
  changes.cost = changes.cost + COST
  if line.wanted then
    for _, unit in ipairs(line.wanted) do
      chosen[unit], chosen.blocks[block_of(id, unit)] = true, true
    end
    return line.wanted
  end
  local units, ranges = {}, ranges_of(id, line.use)
  local anchor = line.use == 'COMPANION' and beside(line, lines) or nil
  local found = anchor and nearby(id, ranges, anchor, line.quantity, chosen)
  if not found or found.count < line.quantity then
    found = (line.together or not anchor) and side_by_side(id, ranges, line.quantity, chosen)
  end
  if found then
    take(found, chosen, units)
    return units
  end
  if line.together then
    return nil, not_adjacent(line, ranges, chosen)
  end
  units = apart(id, ranges, line.quantity, chosen, anchor)
  assert(units, 'the ledger contradicts itself: ' .. id .. ' has fewer seats than it counts')
  return units
end
