-- Purpose: The ledger's own numbers as the contract names them.
-- KEYS: none
-- ARGV: none
-- Returns: none
local COUNTED = { 'capacity', 'free', 'held', 'sold', 'blocked' }

-- Every section's counts, in the definition's order.
function account.sections()
  local counts = {}
  for _, section in ipairs(view.def.sections) do
    counts[#counts + 1] = units.counts(section.id)
  end
  return counts
end

function account.ledger()
  local total = { promised = view.meta.promised }
  for _, counts in ipairs(account.sections()) do
    for _, name in ipairs(COUNTED) do
      total[name] = (total[name] or 0) + counts[name]
    end
  end
  return { watermark = view.meta.watermark, counts = total, turns = view.meta.turns, claims = view.meta.claims,
           unpromised = math.max(0, units.unpromised()), reserved = units.to_release(),
           sequence = view.meta.sequence, revision = view.meta.revision, epoch = view.meta.epoch }
end
