-- Purpose: FREE → BLOCKED, all or nothing, by the organiser; what is held, sold, claimed or promised stays.
-- KEYS: none
-- ARGV: block_id, items
-- Returns: BLOCKED, UNITS_IN_USE, SECTION_NOT_FOUND, IDEMPOTENCY_KEY_REUSED
local function shown(block)
  return { block_id = block.block_id, blocked = block.state == 'BLOCKED', units = block.units }
end

local function in_use(item, free, taken)
  return refuse('UNITS_IN_USE', { section = item.section, free = math.max(0, free), taken = #taken > 0 and taken or nil })
end

-- The seats of an item that are not free.
local function taken_of(item)
  local taken = {}
  for _, unit in ipairs(item.units or {}) do
    if maps.state(item.section, unit) ~= 0 then
      taken[#taken + 1] = unit
    end
  end
  return taken
end

-- Why the items cannot be blocked, or nil. What is promised is of no section: blocking must leave enough in all.
local function refusal_of(items)
  local wanted, spare, unpromised = {}, {}, math.max(0, units.unpromised())
  for _, item in ipairs(items) do
    local id = item.section
    if not view.def.by_section[id] then
      return refuse('SECTION_NOT_FOUND', { section = id })
    end
    wanted[id] = wanted[id] or 0
    spare[id] = spare[id] or units.beyond_quotas(id)
    local reserved, taken = units.reserved(id, item.units), taken_of(item)
    local free = math.min(units.free(id) - wanted[id], unpromised + spare[id] + reserved)
    if #taken > 0 or item.quantity > free then
      return in_use(item, free, taken)
    end
    local from_spare = math.min(spare[id], item.quantity - reserved)
    wanted[id], spare[id] = wanted[id] + item.quantity, spare[id] - from_spare
    unpromised = unpromised - (item.quantity - reserved - from_spare)
  end
end

local function asked_for(items)
  local asked = ''
  for _, item in ipairs(items) do
    asked = asked .. item.section .. ' ' .. item.quantity .. ' ' .. table.concat(item.units or {}, '+') .. ','
  end
  return asked
end

transitions.block = function(cmd)
  local known, asked = view.block(cmd.block_id), asked_for(cmd.items)
  if known then
    -- What a block that was filled in again was asked for is not known.
    if known.asked ~= '' and known.asked ~= asked then
      return refuse('IDEMPOTENCY_KEY_REUSED')
    end
    return { word = 'BLOCKED', block = shown(known) }
  end
  local refusal = refusal_of(cmd.items)
  if refusal then
    return refusal
  end
  -- After this point nothing can fail.
  local block = { block_id = cmd.block_id, state = 'BLOCKED', asked = asked, units = {} }
  for _, item in ipairs(cmd.items) do
    units.block(item, block.units)
  end
  view.save_block(block)
  changes.add('BLOCKED', { block_id = block.block_id, units = block.units })
  return { word = 'BLOCKED', block = shown(block) }
end
