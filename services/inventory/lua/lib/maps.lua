-- Purpose: The maps of units: two bits a unit, four units a byte. A piece of a map is read when one of its units
--   moves, and written once at the end of the run.
-- KEYS: none
-- ARGV: none
-- Returns: none
local BYTES, UNITS = 16, 64
local WEIGHT = { [0] = 64, 16, 4, 1 }

local pieces = {}

local function piece_of(id, number)
  pieces[id] = pieces[id] or {}
  local piece = pieces[id][number]
  if not piece then
    local first = number * BYTES
    piece = { redis.call('GETRANGE', keys.units[id], first, first + BYTES - 1):byte(1, BYTES) }
    for place = #piece + 1, BYTES do
      piece[place] = 0
    end
    pieces[id][number] = piece
  end
  return piece
end

-- A unit that is not what the ledger takes it for would be sold twice, or never: the run stops before it writes.
function maps.move(id, unit, from, to)
  local piece = piece_of(id, math.floor(unit / UNITS))
  local place, weight = math.floor(unit % UNITS / 4) + 1, WEIGHT[unit % 4]
  local found = math.floor(piece[place] / weight) % 4
  if found ~= from then
    error('the ledger contradicts itself: unit ' .. unit .. ' of ' .. id .. ' is in state ' .. found)
  end
  piece[place] = piece[place] + (to - from) * weight
end

function maps.flush()
  for id, of_section in pairs(pieces) do
    for number, piece in pairs(of_section) do
      redis.call('SETRANGE', keys.units[id], number * BYTES, string.char(unpack(piece)))
    end
  end
end
