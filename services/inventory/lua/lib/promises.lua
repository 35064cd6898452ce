-- Purpose: Promises: what a called buyer may still take, until their turn ends.
-- KEYS: none
-- ARGV: none
-- Returns: none
local function end_promise(buyer, promise, state)
  local unused = promise.left
  view.meta.promised = view.meta.promised - unused
  view.meta.turns = view.meta.turns - 1
  promise.left = 0
  promise.state = state
  promise.ended = math.min(view.now, promise.turn_ends)
  view.save_promise(buyer, promise)
  view.set_turn_deadline(buyer, false)
  changes.add('LAPSED', { buyer = buyer, place = promise.place, quantity = unused })
end

-- promise → –; what the buyer holds or has claimed stays. Answers whether a turn ran.
function promises.lapse(buyer)
  local promise = view.promise(buyer)
  if promise and promise.state == 'PROMISED' then
    end_promise(buyer, promise, 'LAPSED')
    return true
  end
  return false
end

-- Ends the turn of a buyer who has bought all that was promised, so that another can be called.
function promises.finish_if_done(buyer)
  local promise, counts = view.promise(buyer), view.buyer(buyer)
  if promise and promise.state == 'PROMISED' and promise.left + counts.held + counts.claimed == 0 then
    end_promise(buyer, promise, 'FINISHED')
  end
end

-- – → promised, or passed over where `allowance` is 0.
function promises.grant(callee, allowance, watermark)
  local turn_ends = math.min(view.now + view.def.turn_ms, view.def.closes_ms)
  local promise = { place = callee.place, allowance = allowance, left = allowance, called_at = view.now,
                    turn_ends = turn_ends, joined_at = callee.joined_at_ms, holds = 0, state = 'PROMISED' }
  if allowance > 0 then
    view.meta.promised = view.meta.promised + allowance
    view.meta.turns = view.meta.turns + 1
    view.set_turn_deadline(callee.buyer, turn_ends)
  else
    promise.state = 'FINISHED'
    promise.ended = view.now
  end
  view.save_promise(callee.buyer, promise)
  changes.add('CALLED', { buyer = callee.buyer, place = callee.place, quantity = allowance,
                          until_ms = turn_ends, watermark = watermark })
end

function promises.spend(buyer, promise, quantity)
  promise.left = promise.left - quantity
  view.meta.promised = view.meta.promised - quantity
  view.save_promise(buyer, promise)
end

-- Gives back what came from the promise of this place, if its turn still runs; answers how much.
function promises.restore(buyer, place, quantity)
  local promise = place and view.promise(buyer)
  if not promise or promise.place ~= place or promise.state ~= 'PROMISED' then
    return 0
  end
  promise.left = promise.left + quantity
  view.meta.promised = view.meta.promised + quantity
  view.save_promise(buyer, promise)
  return quantity
end

-- As the contract's Promise has it.
function promises.shown(promise)
  return { place = promise.place, allowance = promise.allowance, left = promise.left,
           called_at_ms = promise.called_at, turn_ends_at_ms = promise.ended or promise.turn_ends,
           joined_at_ms = promise.joined_at }
end
