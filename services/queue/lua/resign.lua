-- Purpose: gives the lease back, so that the next leader need not wait for its end.
-- KEYS: lease
-- ARGV: token
-- Returns: RESIGNED
if redis.call('GET', keys.lease) ~= cmd.token then return {word = 'RESIGNED'} end

-- After this point nothing can fail.
redis.call('DEL', keys.lease)
return {word = 'RESIGNED'}
