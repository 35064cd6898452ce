-- Runs a batch of commands of one sale's line, in order, at one time and under one epoch. The envelope holds the
-- caller's `epoch`; `seen`, the last change that the caller knows of; `create`, only where the sale was never loaded
-- under that epoch; and `filling` of whoever fills the store again under a new one: `begin` empties it, `go on` fills
-- it, and nobody else is answered until it is full.
--@include keys
local transitions, buckets = {}, {}
--@include lib
--@include transitions(cmd, line)
local envelope = cmsgpack.unpack(ARGV[1])
local commands = cmsgpack.unpack(ARGV[2])
local not_loaded = cmsgpack.pack({word = 'NOT_LOADED'})

local stored = redis.call('HMGET', keys.meta, 'epoch', 'now', 'count', 'cohort', 'serving', 'sequence', 'revision',
  'availability', 'draw_key', 'fence', 'marks', 'stamp', 'filling',
  'asked', 'told_come', 'told_near')
local epoch, last_ms = number_or(stored[1], nil), number_or(stored[2], 0)
local is_filling = number_or(stored[13], 0) == 1
if envelope.filling == 'begin' then
  -- Never by whom another was faster than.
  if epoch and epoch >= envelope.epoch then return not_loaded end
  redis.call('UNLINK', unpack(KEYS))
  stored, epoch, is_filling = {}, nil, true
elseif envelope.filling then
  if epoch ~= envelope.epoch then return not_loaded end
else
  if epoch ~= envelope.epoch and (epoch or not envelope.create) then return not_loaded end
  if is_filling or number_or(stored[6], 0) < (envelope.seen or 0) then return not_loaded end
end
local definition = redis.call('GET', keys.def)
if not (definition or envelope.create or envelope.filling) then return not_loaded end

local time = redis.call('TIME')
local time_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local line = {
  now = math.max(time_ms, last_ms), count = number_or(stored[3], 0), cohort = number_or(stored[4], nil),
  serving = number_or(stored[5], 0), sequence = number_or(stored[6], 0), revision = number_or(stored[7], 0),
  availability = stored[8] or 'UNSPECIFIED', draw_key = stored[9] or nil, fence = number_or(stored[10], 0),
  marks = stored[11] and cmsgpack.unpack(stored[11]) or {}, stamp = number_or(stored[12], 0), epoch = envelope.epoch,
  asked = number_or(stored[14], 0), told_come = number_or(stored[15], 0), told_near = number_or(stored[16], 0),
  def = definition and cmsgpack.unpack(definition) or nil, is_filling = is_filling, changes = {}, dirty = {},
}
if not epoch then put(line, 'epoch', envelope.epoch) end
if is_filling and not epoch then
  put(line, 'filling', 1)
  put(line, 'fence', envelope.epoch * FENCES_PER_EPOCH)
end
buckets.open(line.count)
if line.def then freeze_if_due(line) end

local results = {}
for i = 1, #commands do results[i] = transitions[commands[i].op](commands[i], line) end
-- Tells the caller what there is to publish.
if #results > 0 then results[#results].sequence = line.sequence end

if not line.dropped then
  buckets.flush(line.count)
  if #line.changes > 0 then
    -- Each entry names the one before it by the moment of its run, in µs: two copies of a store that went on apart
    -- are told from each other by that.
    local stamp = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
    redis.call('XADD', keys.out, line.sequence .. '-0', 'e', cmsgpack.pack(line.changes), 'f', line.changes[1].sequence,
      's', stamp, 'a', string.format('%.0f', line.stamp), 'n', line.epoch)
    put(line, 'sequence', line.sequence)
    put(line, 'stamp', stamp)
  end
  -- Every run that decided something keeps the time it decided by; a mere reading does so once a second, as each
  -- write is synced to disk.
  if #line.dirty > 0 or #line.changes > 0 or line.now - last_ms >= 1000 then
    put(line, 'now', line.now)
    redis.call('HSET', keys.meta, unpack(line.dirty))
  end
end
return cmsgpack.pack(results)
