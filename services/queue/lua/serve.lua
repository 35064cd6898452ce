-- Purpose: moves `serving` to the ledger's watermark: every place below it has been called. Never moves it back.
-- KEYS: none
-- ARGV: serving
-- Returns: SERVED
if cmd.serving <= line.serving then return {word = 'SERVED'} end

-- After this point nothing can fail.
local marks = line.marks
local last = marks[#marks]
if not last or line.now - last[1] >= MARK_MS then
  marks[#marks + 1] = {line.now, line.serving}
  if #marks > MARKS then table.remove(marks, 1) end
  put(line, 'marks', cmsgpack.pack(marks))
end
line.serving = cmd.serving
put(line, 'serving', cmd.serving)
change(line, {act = 'SERVING', serving = cmd.serving})
return {word = 'SERVED'}
