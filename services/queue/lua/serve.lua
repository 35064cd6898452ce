-- Purpose: moves `serving` to the ledger's watermark: every place below it has been called. Never moves it back.
-- KEYS: none
-- ARGV: serving
-- Returns: SERVED
if cmd.serving <= line.serving then return {word = 'SERVED'} end

-- After this point nothing can fail.
move_serving(line, cmd.serving, line.now)
change(line, {act = 'SERVING', serving = cmd.serving})
return {word = 'SERVED'}
