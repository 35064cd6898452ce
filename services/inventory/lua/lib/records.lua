-- Purpose: How records lie in the store: their values one after the other, without names, which takes half the
--   room. A new value goes to the end; records written before it then have it as nil.
-- KEYS: none
-- ARGV: none
-- Returns: none
records.promises = {
  pack = function(promise)
    return cmsgpack.pack(promise.state, promise.place, promise.allowance, promise.left, promise.called_at,
      promise.turn_ends, promise.joined_at, promise.holds, promise.ended)
  end,
  unpack = function(packed)
    local state, place, allowance, left, called_at, turn_ends, joined_at, holds_made, ended = cmsgpack.unpack(packed)
    return { state = state, place = place, allowance = allowance, left = left, called_at = called_at,
             turn_ends = turn_ends, joined_at = joined_at, holds = holds_made, ended = ended }
  end,
}

records.claims = {
  pack = function(claim)
    return cmsgpack.pack(claim.word, claim.detail, claim.state, claim.buyer, claim.asked, claim.ends, claim.place,
      claim.hold_id, claim.lines, claim.quantity)
  end,
  unpack = function(packed, order_id)
    local word, detail, state, buyer, asked, ends, place, hold_id, lines, quantity = cmsgpack.unpack(packed)
    return { order_id = order_id, word = word, detail = detail, state = state, buyer = buyer, asked = asked,
             ends = ends, place = place, hold_id = hold_id, lines = lines, quantity = quantity }
  end,
}

records.holds = {
  pack = function(hold)
    return cmsgpack.pack(hold.state, hold.ends, hold.asked, hold.units, hold.order_id, hold.place, hold.pinned,
      hold.waiting)
  end,
  -- The field is `<buyer>/<hold id>`; a buyer's id has no slash.
  unpack = function(packed, field)
    local state, ends, asked, held, order_id, place, pinned, waiting = cmsgpack.unpack(packed)
    local slash = field:find('/', 1, true)
    return { buyer = field:sub(1, slash - 1), hold_id = field:sub(slash + 1), field = field, state = state,
             ends = ends, asked = asked, units = held, order_id = order_id, place = place, pinned = pinned,
             waiting = waiting }
  end,
}

records.buyers = {
  pack = function(counts)
    return cmsgpack.pack(counts.held, counts.owned, counts.claimed, counts.window_holds, counts.window_ends,
      counts.refused, counts.refused_ends)
  end,
  unpack = function(packed)
    local held, owned, claimed, window_holds, window_ends, refused, refused_ends = cmsgpack.unpack(packed)
    return { held = held, owned = owned, claimed = claimed, window_holds = window_holds, window_ends = window_ends,
             refused = refused or 0, refused_ends = refused_ends or 0 }
  end,
}

records.blocks = {
  pack = function(block)
    return cmsgpack.pack(block.state, block.asked, block.units)
  end,
  unpack = function(packed, block_id)
    local state, asked, blocked = cmsgpack.unpack(packed)
    return { block_id = block_id, state = state, asked = asked, units = blocked }
  end,
}
