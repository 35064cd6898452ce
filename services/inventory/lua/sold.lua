-- Purpose: Reads a page of the holds whose units are SOLD, for the reconciler. A hold that changes meanwhile may be
--   left out or come twice.
-- KEYS: holds
-- ARGV: cursor, count
-- Returns: PAGE
transitions.sold = function(cmd)
  local page = redis.call('HSCAN', keys.holds, cmd.cursor, 'COUNT', cmd.count)
  local sold = {}
  for i = 1, #page[2], 2 do
    local hold = records.holds.unpack(page[2][i + 1], page[2][i])
    if hold.state == 'SOLD' then
      sold[#sold + 1] = { buyer = hold.buyer, hold_id = hold.hold_id, order_id = hold.order_id, units = hold.units }
    end
  end
  return { word = 'PAGE', cursor = page[1], holds = sold }
end
