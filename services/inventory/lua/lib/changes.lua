-- Purpose: The outbox: every change of state in the order in which it was made, one stream entry per run.
-- KEYS: out
-- ARGV: none
-- Returns: none
-- What this run has cost so far, in units of the envelope's budget.
changes.cost = 0

local made = {}

-- Field names are those of catraca.events.v1.InventoryChange; `act` is the act's name without its prefix.
function changes.add(act, change)
  view.meta.sequence = view.meta.sequence + 1
  change.sequence = view.meta.sequence
  change.at_ms = view.now
  change.act = act
  made[#made + 1] = change
  changes.cost = changes.cost + 1 + (change.units and #change.units or 0)
end

function changes.flush()
  if #made > 0 then
    local first = string.format('%.0f', made[1].sequence)
    local last = string.format('%.0f', made[#made].sequence)
    redis.call('XADD', keys.out, last .. '-0', 'f', first, 'e', cmsgpack.pack(made))
  end
end
