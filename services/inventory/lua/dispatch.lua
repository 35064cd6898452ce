-- One run: opens the view of the sale, ends what is due, lets each command decide in turn, and writes once.
--
-- ARGV[1] is the envelope: `epoch`, `sections` (ids in the order of their keys: for each section its map of
-- units, its list of returned ones, and where it is seated its layout and the summary of its free runs), `budget` (what one run may cost, some 7 µs each),
-- `refused_orders` (how many of one buyer's are kept within the time of a hold), `seen` (the last change that the
-- caller knows of), `create` where the sale may be made from nothing, and `filling` of whoever fills the store again
-- under a new epoch: `begin` empties it, `go on` fills it, and nobody else is answered until it is full. ARGV[2] is the list of commands, each with its `op`.
--
-- Answers one result per command, in order. They may be fewer than the commands: the run stops where its
-- budget is spent, or where more is due than one run can end, for nothing is judged before all that is due
-- has ended. The caller runs the rest again.
--@include keys
local records, view, changes, maps, units, promises = {}, {}, {}, {}, {}, {}
local rights, claims, holds, expiry, account, seats = {}, {}, {}, {}, {}, {}
local transitions = {}
local envelope = cmsgpack.unpack(ARGV[1])
local commands = cmsgpack.unpack(ARGV[2])

local function refuse(word, detail)
  return { word = word, detail = detail }
end

local OF_SECTION = { 'units', 'returned', 'layout', 'runs' }
for number, name in ipairs(OF_SECTION) do
  keys[name] = {}
  for place, id in ipairs(envelope.sections) do
    keys[name][id] = KEYS[FIXED_KEYS + #OF_SECTION * (place - 1) + number]
  end
end

--@include lib
--@include transitions

if not view.open(envelope) then
  return cmsgpack.pack({ word = 'NOT_LOADED' })
end
if view.def then
  for _, section in ipairs(view.def.sections) do
    -- The caller knows another definition than the store does and did not name all keys.
    if not keys.units[section.id] then
      return cmsgpack.pack({ word = 'DEFINITION_BEHIND', revision = view.meta.revision, section = section.id })
    end
  end
  units.open()
end

local results = {}
-- What the commands name is read for some of them at a time: what is read beyond the budget is read for nothing, and
-- a large hold takes longer to read than to sell.
local READ_AHEAD = 32
-- What is filled in again may be due already: the first run after it ends that.
if envelope.filling or expiry.end_what_is_due(envelope.budget) then
  for place, cmd in ipairs(commands) do
    if changes.cost + #results >= envelope.budget then
      break
    end
    if place % READ_AHEAD == 1 then
      view.prefetch(commands, place, place + READ_AHEAD - 1)
    end
    local result = transitions[cmd.op](cmd)
    result.at_ms = view.now
    -- Tells the caller whether there is anything new to publish.
    result.sequence = view.meta.sequence
    results[#results + 1] = result
  end
end
if view.dropped then
  redis.call('UNLINK', unpack(KEYS))
else
  seats.settle()
  -- The outbox goes first: it is the one write that Redis may still refuse.
  changes.flush()
  view.flush()
  maps.flush()
  units.flush()
  seats.flush()
end
return cmsgpack.pack(results)
