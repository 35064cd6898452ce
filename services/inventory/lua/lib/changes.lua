-- Purpose: The outbox: every change of state in the order in which it was made, one stream entry per run.
-- KEYS: out
-- ARGV: none
-- Returns: none
-- What this run has cost so far, in units of the envelope's budget: each change costs one, each unit that moves another
-- one, and what costs more says so where it is done.
changes.cost = 0

local made = {}

-- Field names are those of catraca.events.v1.InventoryChange; `act` is the act's name without its prefix.
function changes.add(act, change)
  changes.cost = changes.cost + 1
  if envelope.filling then
    -- What is filled in again was published before.
    return
  end
  view.meta.sequence = view.meta.sequence + 1
  change.sequence = view.meta.sequence
  change.at_ms = view.now
  change.act = act
  made[#made + 1] = change
end

-- Each entry names the one before it by the moment of its run, in µs: two copies of a store that went on apart are
-- told from each other by that.
function changes.flush()
  if #made > 0 then
    local first = string.format('%.0f', made[1].sequence)
    local last = string.format('%.0f', made[#made].sequence)
    local stamp, before = string.format('%.0f', view.stamp), string.format('%.0f', view.meta.stamp or 0)
    redis.call('XADD', keys.out, last .. '-0', 'f', first, 'e', cmsgpack.pack(made), 's', stamp, 'a', before,
      'n', string.format('%.0f', view.meta.epoch))
    view.meta.stamp = view.stamp
  end
end
