-- Purpose: One run's view of a sale: read through once, changed in memory, written by view.flush when every
--   command is decided. A run that fails half-way has therefore written nothing.
-- KEYS: meta, def, promises, claims, holds, buyers, blocks, due
-- ARGV: none
-- Returns: none
view.meta = {}

-- One call with many fields stays below what Lua can unpack.
local FIELDS_PER_CALL = 1000

local tables = {
  promises = { loaded = {}, changed = {} },
  claims = { loaded = {}, changed = {} },
  holds = { loaded = {}, changed = {} },
  buyers = { loaded = {}, changed = {} },
  blocks = { loaded = {}, changed = {} },
}
local deadlines = {}
local new_def

-- How long a run that changed nothing may leave the clock unwritten: each write is synced to disk.
local CLOCK_WRITTEN_MS = 1000
local stored = { sequence = 0, now = 0 }

local function emptied(epoch, now)
  return { epoch = epoch, revision = 0, now = now, sequence = 0, watermark = 0, turns = 0, promised = 0, claims = 0 }
end

-- Whether the store may be emptied and filled again: never by whom another was faster than. Who begins once more
-- never heard that it had begun.
local function begin_filling(envelope)
  local epoch = view.meta.epoch or 0
  local is_begun = epoch == envelope.epoch and view.meta.filling == 1 and (view.meta.filled or 0) == 0
  if epoch >= envelope.epoch and not is_begun then
    return false
  end
  redis.call('UNLINK', unpack(KEYS))
  view.meta = emptied(envelope.epoch, view.meta.now or 0)
  view.meta.filling, view.meta.filled = 1, 0
  view.has_changed = true
  return true
end

-- Whether the store holds what the caller knows of the sale: this epoch of it, to the last change that was seen.
-- Whoever fills it goes on also where it is full: the answer to the last part may be lost as any other.
local function is_known(envelope)
  if view.meta.epoch ~= envelope.epoch then
    return false
  end
  local is_full = (view.meta.filling or 0) == 0
  return envelope.filling ~= nil or is_full and view.meta.sequence >= (envelope.seen or 0)
end

-- Reads meta, the definition and the clock. False where the store does not hold this epoch of the sale, or has lost
-- changes that the caller has seen.
function view.open(envelope)
  local fields = redis.call('HGETALL', keys.meta)
  for i = 1, #fields, 2 do
    view.meta[fields[i]] = tonumber(fields[i + 1])
  end
  if envelope.filling == 'begin' then
    if not begin_filling(envelope) then
      return false
    end
  elseif #fields == 0 then
    if not envelope.create then
      return false
    end
    view.meta = emptied(envelope.epoch, 0)
  end
  local time = redis.call('TIME')
  -- A clock that steps back stands still here: nothing that ended lives again.
  stored.sequence, stored.now = view.meta.sequence, view.meta.now
  view.now = math.max(time[1] * 1000 + math.floor(time[2] / 1000), view.meta.now)
  view.stamp = time[1] * 1000000 + time[2]
  local packed = redis.call('GET', keys.def)
  view.def = packed and cmsgpack.unpack(packed) or nil
  return is_known(envelope)
end

-- Packed at once: the run adds to its own copy.
function view.save_def(def) new_def = cmsgpack.pack(def) end

local function read(name, field)
  local of = tables[name]
  local record = of.loaded[field]
  if record == nil then
    local packed = redis.call('HGET', keys[name], field)
    record = packed and records[name].unpack(packed, field) or false
    of.loaded[field] = record
  end
  return record or nil
end

local function save(name, field, record)
  view.has_changed = true
  tables[name].loaded[field] = record
  tables[name].changed[field] = true
end

function view.promise(buyer) return read('promises', buyer) end
function view.save_promise(buyer, promise) save('promises', buyer, promise) end

function view.claim(order_id) return read('claims', order_id) end
function view.save_claim(claim) save('claims', claim.order_id, claim) end

-- Hold ids are unique among one buyer's own.
function view.hold_field(buyer, hold_id) return buyer .. '/' .. hold_id end
function view.hold(buyer, hold_id) return read('holds', view.hold_field(buyer, hold_id)) end
function view.hold_at(field) return read('holds', field) end
function view.save_hold(hold) save('holds', hold.field, hold) end

function view.block(block_id) return read('blocks', block_id) end
function view.save_block(block) save('blocks', block.block_id, block) end

-- Reads what the commands name, a table at a time: one call for many fields costs far less than one for each.
local function fetch(name, fields)
  local loaded = tables[name].loaded
  for first = 1, #fields, FIELDS_PER_CALL do
    local last = math.min(#fields, first + FIELDS_PER_CALL - 1)
    local found = redis.call('HMGET', keys[name], unpack(fields, first, last))
    for i = first, last do
      local field, packed = fields[i], found[i - first + 1]
      if loaded[field] == nil then
        loaded[field] = packed and records[name].unpack(packed, field) or false
      end
    end
  end
end

function view.prefetch(commands, from, to)
  local buyers, holds, claims = {}, {}, {}
  for place = from, math.min(to, #commands) do
    local cmd = commands[place]
    if cmd.buyer then buyers[#buyers + 1] = cmd.buyer end
    if cmd.hold_id then holds[#holds + 1] = view.hold_field(cmd.buyer, cmd.hold_id) end
    if cmd.order_id then claims[#claims + 1] = cmd.order_id end
  end
  fetch('buyers', buyers)
  fetch('promises', buyers)
  fetch('holds', holds)
  fetch('claims', claims)
end

function view.buyer(buyer)
  local counts = read('buyers', buyer)
  if not counts then
    counts = { held = 0, owned = 0, claimed = 0, window_holds = 0, window_ends = 0, refused = 0, refused_ends = 0 }
    tables.buyers.loaded[buyer] = counts
  end
  return counts
end
function view.save_buyer(buyer, counts) save('buyers', buyer, counts) end

-- Deadlines are members of one sorted set; the first letter says what ends then.
function view.set_turn_deadline(buyer, at_ms) deadlines['t/' .. buyer] = at_ms end
function view.set_claim_deadline(order_id, at_ms) deadlines['c/' .. order_id] = at_ms end
function view.set_hold_deadline(hold, at_ms) deadlines['h/' .. hold.field] = at_ms end

-- What is due by now, the earliest first, `most` at most.
function view.due(most)
  return redis.call('ZRANGEBYSCORE', keys.due, '-inf', view.now, 'LIMIT', 0, most)
end

-- When the next thing ends, or nil.
function view.next_deadline()
  return tonumber(redis.call('ZRANGE', keys.due, 0, 0, 'WITHSCORES')[2])
end

-- Runs a command with a few arguments for each of many things, in calls of bounded length.
local function call_with(command, key, arguments)
  for first = 1, #arguments, FIELDS_PER_CALL do
    redis.call(command, key, unpack(arguments, first, math.min(#arguments, first + FIELDS_PER_CALL - 1)))
  end
end

local function write_records(name)
  local loaded, pack, fields, count = tables[name].loaded, records[name].pack, {}, 0
  for field in pairs(tables[name].changed) do
    fields[count + 1], fields[count + 2] = field, pack(loaded[field])
    count = count + 2
  end
  call_with('HSET', keys[name], fields)
end

local function write_deadlines()
  local added, removed, texts, count = {}, {}, {}, 0
  for member, at_ms in pairs(deadlines) do
    if at_ms then
      -- Most deadlines of a run are the same moment: it is made text once.
      texts[at_ms] = texts[at_ms] or string.format('%.0f', at_ms)
      added[count + 1], added[count + 2] = texts[at_ms], member
      count = count + 2
    else
      table.insert(removed, member)
    end
  end
  call_with('ZADD', keys.due, added)
  call_with('ZREM', keys.due, removed)
end

function view.flush()
  if not view.has_changed and view.meta.sequence == stored.sequence
    and view.now < stored.now + CLOCK_WRITTEN_MS then
    return
  end
  for name in pairs(tables) do
    write_records(name)
  end
  write_deadlines()
  if new_def then
    redis.call('SET', keys.def, new_def)
  end
  view.meta.now = view.now
  local fields = {}
  for name, number in pairs(view.meta) do
    fields[#fields + 1] = name
    fields[#fields + 1] = string.format('%.0f', number)
  end
  redis.call('HSET', keys.meta, unpack(fields))
end
