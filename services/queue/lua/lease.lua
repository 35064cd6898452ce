-- Purpose: takes or keeps the lease of the one who calls. A new holder gets a higher fence than any before.
-- KEYS: lease
-- ARGV: token, ttl_ms
-- Returns: LEADING, FOLLOWING
local holder = redis.call('GET', keys.lease)
if holder and holder ~= cmd.token then return {word = 'FOLLOWING'} end

-- After this point nothing can fail.
if not holder then
  redis.call('SET', keys.lease, cmd.token, 'PX', cmd.ttl_ms)
  line.fence = line.fence + 1
  put(line, 'fence', line.fence)
elseif redis.call('PTTL', keys.lease) * 2 < cmd.ttl_ms then
  -- Not renewed at every look, as each renewal is a write that is synced to disk.
  redis.call('PEXPIRE', keys.lease, cmd.ttl_ms)
end
return {word = 'LEADING', fence = line.fence}
