-- Purpose: BLOCKED → FREE: all that a block took. They go to the next in line.
-- KEYS: none
-- ARGV: block_id
-- Returns: UNBLOCKED, BLOCK_NOT_FOUND
transitions.unblock = function(cmd)
  local block = view.block(cmd.block_id)
  if not block then
    return refuse('BLOCK_NOT_FOUND', { block_id = cmd.block_id })
  end
  -- After this point nothing can fail.
  if block.state == 'BLOCKED' then
    units.unblock(block.units)
    block.state = 'UNBLOCKED'
    view.save_block(block)
    changes.add('UNBLOCKED', { block_id = block.block_id, units = block.units })
  end
  return { word = 'UNBLOCKED', block = { block_id = block.block_id, blocked = false, units = block.units } }
end
