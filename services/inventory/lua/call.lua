-- Purpose: – → promised: calls the next in line, in their order, as far as stock, concurrency and the run's
--   budget reach. Who has the limit already is passed over with an allowance of 0.
-- KEYS: none
-- ARGV: from, to, callees
-- Returns: CALLED, NOT_WATERMARK, PAUSED, WRONG_PHASE, NO_LINE, INVALID_FIELD
local function are_in_order(cmd)
  local before = cmd.from - 1
  for _, callee in ipairs(cmd.callees) do
    if callee.place <= before then
      return false
    end
    before = callee.place
  end
  return before < cmd.to
end

-- Of the run's budget what is before it leaves something, or it would not have begun.
local function may_go_on()
  return units.unpromised() > 0
    and (view.def.concurrency == 0 or view.meta.turns < view.def.concurrency)
    and changes.cost < envelope.budget
end

local function allowance_of(callee)
  local counts = view.buyer(callee.buyer)
  local below_limit = view.def.limit - counts.held - counts.owned - counts.claimed
  return math.max(0, math.min(callee.want or below_limit, below_limit, units.unpromised()))
end

transitions.call = function(cmd)
  if not view.def.line then
    return refuse('NO_LINE')
  end
  local phase = rights.phase()
  if phase == 'PAUSED' then
    return { word = 'PAUSED', ledger = account.ledger() }
  end
  local refusal = rights.window_refusal()
  if refusal then
    return refusal
  end
  if cmd.from ~= view.meta.watermark then
    return { word = 'NOT_WATERMARK', ledger = account.ledger() }
  end
  if not are_in_order(cmd) then
    return refuse('INVALID_FIELD', { field = 'callees', expected = 'places within [from, to) in ascending order' })
  end
  -- After this point nothing can fail.
  local granted = 0
  for place, callee in ipairs(cmd.callees) do
    if not may_go_on() then
      break
    end
    promises.lapse(callee.buyer)
    view.meta.watermark = place == #cmd.callees and cmd.to or callee.place + 1
    local allowance = allowance_of(callee)
    promises.grant(callee, allowance, view.meta.watermark)
    granted = granted + (allowance > 0 and 1 or 0)
  end
  if #cmd.callees == 0 and cmd.to > cmd.from then
    -- Nobody holds any of these places any more: the ledger passes over all of them at once.
    view.meta.watermark = cmd.to
    changes.add('CALLED', { quantity = 0, watermark = cmd.to })
  end
  return { word = 'CALLED', granted = granted, ledger = account.ledger() }
end
