-- Runs a batch of commands of one sale's line, in order, at one time and under one epoch. The envelope holds the
-- caller's `epoch` and, only where the sale was never loaded under it, `create`.
--@include keys
local transitions = {}
--@include lib
--@include transitions(cmd, line)
local envelope = cmsgpack.unpack(ARGV[1])
local commands = cmsgpack.unpack(ARGV[2])
local not_loaded = cmsgpack.pack({word = 'NOT_LOADED'})

local stored = redis.call('HMGET', keys.meta, 'epoch', 'now', 'count', 'cohort', 'serving', 'sequence', 'revision',
  'availability', 'draw_key', 'fence', 'marks', 'asked', 'told_come', 'told_near')
local epoch = number_or(stored[1], nil)
if epoch ~= envelope.epoch and (epoch or not envelope.create) then return not_loaded end
local definition = redis.call('GET', keys.def)
if not definition and not envelope.create then return not_loaded end

local time = redis.call('TIME')
local time_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last_ms = number_or(stored[2], 0)
local line = {
  now = math.max(time_ms, last_ms), count = number_or(stored[3], 0), cohort = number_or(stored[4], nil),
  serving = number_or(stored[5], 0), sequence = number_or(stored[6], 0), revision = number_or(stored[7], 0),
  availability = stored[8] or 'UNSPECIFIED', draw_key = stored[9] or nil, fence = number_or(stored[10], 0),
  marks = stored[11] and cmsgpack.unpack(stored[11]) or {},
  asked = number_or(stored[12], 0), told_come = number_or(stored[13], 0), told_near = number_or(stored[14], 0),
  def = definition and cmsgpack.unpack(definition) or nil, changes = {}, dirty = {},
}
if not epoch then put(line, 'epoch', envelope.epoch) end
if line.def then freeze_if_due(line) end

local results = {}
for i = 1, #commands do results[i] = transitions[commands[i].op](commands[i], line) end

if not line.dropped then
  if #line.changes > 0 then
    put(line, 'sequence', line.sequence)
    redis.call('XADD', keys.out, line.sequence .. '-0', 'e', cmsgpack.pack(line.changes), 'f', line.changes[1].sequence)
  end
  -- Every run that decided something keeps the time it decided by; a mere reading does so once a second, as each
  -- write is synced to disk.
  if #line.dirty > 0 or #line.changes > 0 or line.now - last_ms >= 1000 then
    put(line, 'now', line.now)
    redis.call('HSET', keys.meta, unpack(line.dirty))
  end
end
return cmsgpack.pack(results)
