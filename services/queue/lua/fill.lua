-- Purpose: fills in changes of a line whose store was lost, as they were published, in their order. The first part
--   brings the definition; the one that brings `last`, the end of what was published, is the last one: the line goes
--   on from there. A part that comes again changes nothing.
-- KEYS: meta, def, members, codes, asked
-- ARGV: definition, changes, last
-- Returns: FILLED
if not line.is_filling then return {word = 'FILLED'} end

-- After this point nothing can fail.
local fill = {}

-- One of several parts of a change has `more`: the change is in with the last of them.
function fill.JOINED(done)
  if done.index < line.count then return end
  local buyers, stamp, places = {}, struct.pack('>I6', done.at_ms), buckets.read(done.buyers)
  for at = 1, #done.buyers, BUYER_BYTES do
    local buyer = string.sub(done.buyers, at, at + BUYER_BYTES - 1)
    buyers[#buyers + 1] = buyer
    local slot = places[#buyers]
    if buckets.index_of(buyer, slot) then
      buckets.move(buyer, line.count, slot)
    else
      buckets.add(buyer, line.count, slot)
    end
    line.count = line.count + 1
  end
  redis.call('APPEND', keys.members, table.concat(buyers, stamp) .. stamp)
  for at = 1, #done.codes, ID_BYTES do
    local code = string.sub(done.codes, at, at + ID_BYTES - 1)
    if code ~= NO_ID then count_use(keys.codes, code) end
  end
  put(line, 'count', line.count)
end

function fill.LEFT(done)
  buckets.move(done.buyers, -done.index - 1, buckets.read(done.buyers)[1])
  if line.asked > 0 then redis.call('SETBIT', keys.asked, done.index, 0) end
end

-- What was told since the first one asked is looked through once more: each message is there already.
function fill.ASKED(done)
  local places = buckets.read(done.buyers)
  for place = 1, #places do
    local buyer = string.sub(done.buyers, (place - 1) * BUYER_BYTES + 1, place * BUYER_BYTES)
    note_asker(line, keys.asked, buckets.index_of(buyer, places[place]))
  end
end

function fill.REJOINED(done)
  buckets.move(done.buyers, done.index, buckets.read(done.buyers)[1])
  redis.call('SETRANGE', keys.members, done.index * RECORD_BYTES + BUYER_BYTES, struct.pack('>I6', done.at_ms))
end

function fill.CODES(done)
  for at = 1, #done.codes, ID_BYTES do put_code(keys.codes, string.sub(done.codes, at, at + ID_BYTES - 1), done.uses) end
end

function fill.DEFINED(done)
  line.revision = done.cohort
  put(line, 'revision', done.cohort)
end

function fill.FROZEN(done)
  line.cohort = done.cohort
  put(line, 'cohort', done.cohort)
  put(line, 'frozen_at', done.at_ms)
end

function fill.ROOTED(done) redis.call('HSET', keys.meta, 'root', done.root, 'root_at', done.at_ms) end

function fill.DRAWN(done)
  redis.call('HSETNX', keys.meta, 'root_at', done.at_ms)
  redis.call('HSET', keys.meta, 'draw_key', done.draw_key, 'root', done.root, 'seed', done.seed,
    'beacon', done.beacon, 'beacon_round', done.beacon_round)
  line.draw_key = done.draw_key
end

function fill.SERVING(done) move_serving(line, done.serving, done.at_ms) end

local function tell(done)
  line.availability = done.act
  put(line, 'availability', done.act)
end
fill.SELLING, fill.MAY_RETURN, fill.SOLD_OUT = tell, tell, tell

if cmd.definition then
  line.def = cmd.definition
  redis.call('SET', keys.def, cmsgpack.pack(cmd.definition))
end
for i = 1, #cmd.changes do
  local done = cmd.changes[i]
  if done.sequence > line.sequence then
    if fill[done.act] then fill[done.act](done) end
    if not done.more then line.sequence = done.sequence end
    line.now = math.max(line.now, done.at_ms)
  end
end
if cmd.last then
  line.sequence, line.stamp, line.is_filling = cmd.last.sequence, cmd.last.stamp, false
  line.now = math.max(line.now, cmd.last.at_ms)
  put(line, 'stamp', string.format('%.0f', line.stamp))
  put(line, 'filling', 0)
  freeze_if_due(line)
end
put(line, 'sequence', line.sequence)
return {word = 'FILLED'}
