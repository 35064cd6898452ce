-- Purpose: Frees a settled sale's keys: after closing, with nothing held, promised or claimed, and every change
--   published. Where it is only asked it says whether it would.
-- KEYS: none
-- ARGV: published, ask
-- Returns: DROPPED, DROPPABLE, WRONG_PHASE, SALE_NOT_SETTLED, UNAVAILABLE
transitions.drop = function(cmd)
  local phase = rights.phase()
  if phase ~= 'CLOSED' then
    return refuse('WRONG_PHASE', { phase = phase, needs = 'CLOSED' })
  end
  if view.meta.turns + units.under_way > 0 then
    return refuse('SALE_NOT_SETTLED', { turns = view.meta.turns, units = units.under_way })
  end
  if cmd.published ~= view.meta.sequence then
    return refuse('UNAVAILABLE', { published = cmd.published, sequence = view.meta.sequence })
  end
  if cmd.ask then
    return { word = 'DROPPABLE' }
  end
  -- After this point nothing can fail.
  view.dropped = true
  return { word = 'DROPPED' }
end
