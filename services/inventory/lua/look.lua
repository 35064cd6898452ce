-- Purpose: Reads a buyer's promise of one place, and how many units they have in all.
-- KEYS: none
-- ARGV: buyer, place
-- Returns: PROMISED, LAPSED, FINISHED, NOT_CALLED
transitions.look = function(cmd)
  local promise, counts = view.promise(cmd.buyer), view.buyer(cmd.buyer)
  local detail = { has = counts.held + counts.owned + counts.claimed }
  -- Whoever asks has seen this place called: the call went with a store that was lost, and is about to be made again.
  detail.again = cmd.place >= view.meta.watermark and 1 or nil
  if not promise or promise.place < cmd.place then
    return { word = 'NOT_CALLED', detail = detail }
  end
  if promise.place > cmd.place then
    -- A later turn of the same buyer took the place of this one.
    return { word = 'LAPSED', detail = detail }
  end
  return { word = promise.state, detail = detail, promise = promises.shown(promise) }
end
