-- Purpose: The maps of units: two bits a unit, four units a byte. A piece of a map is read when one of its units is
--   asked for, and written once at the end of the run if one of them moved.
-- KEYS: none
-- ARGV: none
-- Returns: none
local BYTES, UNITS = 16, 64
local WEIGHT = { [0] = 64, 16, 4, 1 }

local pieces = {}

local function read(id, number)
  local first = number * BYTES
  local piece = { redis.call('GETRANGE', keys.units[id], first, first + BYTES - 1):byte(1, BYTES) }
  for place = #piece + 1, BYTES do
    piece[place] = 0
  end
  return piece
end

local function piece_of(id, number)
  local of_section = pieces[id]
  if not of_section then
    of_section = {}
    pieces[id] = of_section
  end
  local piece = of_section[number]
  if not piece then
    piece = read(id, number)
    of_section[number] = piece
  end
  return piece
end

-- FREE is 0, HELD 1, SOLD 2, BLOCKED 3.
function maps.state(id, unit)
  local in_piece, in_byte = unit % UNITS, unit % 4
  local byte, weight = piece_of(id, (unit - in_piece) / UNITS)[(in_piece - in_byte) / 4 + 1], WEIGHT[in_byte]
  return (byte - byte % weight) / weight % 4
end

-- A section's whole map as it is now, for `capacity` units.
function maps.text(id, capacity)
  local text, size = redis.call('GET', keys.units[id]) or '', math.ceil(capacity / 4)
  text = text .. string.rep('\0', size - #text)
  for number, piece in pairs(pieces[id] or {}) do
    local first = number * BYTES
    text = text:sub(1, first) .. string.char(unpack(piece)) .. text:sub(first + BYTES + 1)
  end
  return text:sub(1, size)
end

-- A unit that is not what the ledger takes it for would be sold twice, or never: the run stops before it writes.
function maps.move(id, unit, from, to)
  local in_piece, in_byte = unit % UNITS, unit % 4
  local piece = piece_of(id, (unit - in_piece) / UNITS)
  local place, weight = (in_piece - in_byte) / 4 + 1, WEIGHT[in_byte]
  local byte = piece[place]
  local found = (byte - byte % weight) / weight % 4
  if found ~= from then
    error('the ledger contradicts itself: unit ' .. unit .. ' of ' .. id .. ' is in state ' .. found)
  end
  piece[place] = byte + (to - from) * weight
  piece.has_moved = true
end

function maps.flush()
  for id, of_section in pairs(pieces) do
    for number, piece in pairs(of_section) do
      if piece.has_moved then
        redis.call('SETRANGE', keys.units[id], number * BYTES, string.char(unpack(piece)))
      end
    end
  end
end
