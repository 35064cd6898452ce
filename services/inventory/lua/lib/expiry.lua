-- Purpose: Ends turns, claims and holds whose time is over, in the order in which they ended.
-- KEYS: none
-- ARGV: none
-- Returns: none
-- Ending the least of things costs about as much as this many units of the budget, and so does each unit of a hold.
local COST = 2

local ends = {
  t = function(buyer)
    -- What ended before it in this run may have been the last that the turn waited for.
    if not promises.lapse(buyer) then
      view.set_turn_deadline(buyer, false)
    end
  end,
  c = function(order_id)
    claims.give_up(view.claim(order_id), 'EXPIRED')
  end,
  h = function(field)
    holds.give_back(view.hold_at(field), 'EXPIRED')
  end,
}

local function cost_of(kind, name) return kind == 'h' and COST * #view.hold_at(name).units or COST end

-- True once nothing is due any more; false where there is more of it than `budget` allows. One thing always ends.
function expiry.end_what_is_due(budget)
  local most = math.ceil(budget / COST)
  local due = view.due(most)
  for _, member in ipairs(due) do
    local kind, name = member:sub(1, 1), member:sub(3)
    -- What is large waits for a run of its own rather than make this one longer than it may be.
    if changes.cost > 0 and changes.cost + cost_of(kind, name) > budget then
      return false
    end
    ends[kind](name)
  end
  return #due < most
end
