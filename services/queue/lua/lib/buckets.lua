-- Purpose: Which index each buyer has, or had: the hash `index`. Each of its fields is a bucket, with an entry of 6 bytes
--   for each of a few buyers: the first 2 bytes of their id, and their index, at which `members` has the whole id. That
--   takes a fifth of the room that a field for each buyer does. There are the more buckets the more have joined: one
--   after the other is split in two (linear hashing), so that none has many entries, and no join moves more than a few.
--   Ids are keyed hashes, so nobody can choose the bucket that they go to.
-- KEYS: index, members
-- ARGV: none
-- Returns: none
local HEAD_BYTES, ENTRY_BYTES = 2, 6
-- Added to the index of who left.
local LEFT = 2147483648
-- So many entries a bucket has: with fewer its own room would count, with more each join would write more.
local PER_BUCKET = 4
-- There are as many from the start: an entry need not have the byte that they are told apart by.
local FEWEST = 256
-- What Redis answers to one call stays below the 16 kB that it keeps ready for that.
local READ_PER_CALL = 128
local FIELDS_PER_CALL = 1000
-- All of these are called some times for each who joins.
local byte, sub, find, pack = string.byte, string.sub, string.find, struct.pack

-- How many buckets there are, and the largest power of two that is not more: from that one on, each was made of the one
-- that has its number without the highest bit.
local total, whole
-- The buckets that this run has read, in the order in which it did: their names and texts, and which of them
-- changed. `slots` has where each number is among them.
local fields, texts, changed, slots, read = {}, {}, {}, {}, 0
-- How many had joined before this run, and who has since: their records may not be written yet.
local before, fresh = 0, {}

local function wanted_for(count) return math.max(FEWEST, math.floor(count / PER_BUCKET)) end

-- For a line that so many have joined.
function buckets.open(count)
  before, total, whole = count, wanted_for(count), FEWEST
  while 2 * whole <= total do whole = 2 * whole end
end

-- Where a bucket is among those that are read, which a new one is as yet to be.
local function slot_of(number)
  local slot = slots[number]
  if not slot then
    slot = #fields + 1
    slots[number], fields[slot] = slot, pack('>I3', number)
  end
  return slot
end

-- Reads the buckets that are to be read.
local function fetch()
  for first = read + 1, #fields, READ_PER_CALL do
    local last = math.min(#fields, first + READ_PER_CALL - 1)
    local found = redis.call('HMGET', keys.index, unpack(fields, first, last))
    for slot = first, last do texts[slot] = found[slot - first + 1] or '' end
  end
  read = #fields
end

-- Reads the buckets of buyers, who stand one after the other in a text, at once: a call for each would cost more than
-- all else. Answers where each one's is.
function buckets.read(buyers)
  local places, size = {}, 2 * whole
  for place = 1, #buyers / BUYER_BYTES do
    -- Three bytes are enough for any line.
    local high, middle, low = byte(buyers, (place - 1) * BUYER_BYTES + 1, (place - 1) * BUYER_BYTES + 3)
    local number = (high * 65536 + middle * 256 + low) % size
    if number >= total then number = number - whole end
    places[place] = slots[number] or slot_of(number)
  end
  fetch()
  return places
end

local function buyer_at(index)
  return fresh[index - before + 1] or sub(record_of(keys.members, index), 1, BUYER_BYTES)
end

-- Where a text is the beginning of an entry of a bucket, behind a byte; nil where it is not.
local function find_entry(bucket, text, at)
  repeat at = find(bucket, text, at + 1, true) until not at or at % ENTRY_BYTES == 1
  return at
end

-- Where a buyer's entry is in their bucket, their index, and whether they left; nil where there is none. Others may have
-- the same first bytes.
local function entry_of(buyer, bucket)
  local head = sub(buyer, 1, HEAD_BYTES)
  local at = find_entry(bucket, head, 0)
  while at do
    local index = struct.unpack('>I4', bucket, at + HEAD_BYTES)
    local has_left = index >= LEFT
    if has_left then index = index - LEFT end
    if buyer_at(index) == buyer then return at, index, has_left end
    at = find_entry(bucket, head, at)
  end
end

-- A buyer's index by where their bucket is: minus one and negative of who left, nil of who never joined.
function buckets.index_of(buyer, slot)
  local _, index, has_left = entry_of(buyer, texts[slot])
  return has_left and -index - 1 or index
end

-- Whether whoever once got this index stands there.
function buckets.has(buyer, index, slot)
  return find_entry(texts[slot], sub(buyer, 1, HEAD_BYTES) .. pack('>I4', index), 0) ~= nil
end

-- Gives an index to who never joined.
function buckets.add(buyer, index, slot)
  texts[slot], changed[slot] = texts[slot] .. sub(buyer, 1, HEAD_BYTES) .. pack('>I4', index), true
  fresh[index - before + 1] = buyer
end

-- Gives another index to who has joined, or the same as one who left, negative and minus one, or came back.
function buckets.move(buyer, index, slot)
  local text = texts[slot]
  local at = entry_of(buyer, text) + HEAD_BYTES
  local stored = index < 0 and LEFT - index - 1 or index
  texts[slot] = sub(text, 1, at - 1) .. pack('>I4', stored) .. sub(text, at + 4)
  changed[slot] = true
  if index >= before then fresh[index - before + 1] = buyer end
end

-- Moves to a new bucket what belongs there of the one that it is made of: the entries whose head has the bit that tells
-- the two apart.
local function split(source, target)
  local text, parts = texts[source], { [true] = {}, [false] = {} }
  local is_high = whole >= 65536
  local bit = whole / (is_high and 65536 or 256)
  -- Entries beside each other that go the same way do so together.
  local from, goes = 1, nil
  for at = 1, #text, ENTRY_BYTES do
    local has_bit = byte(text, is_high and at or at + 1) % (2 * bit) >= bit
    if has_bit ~= goes then
      if goes ~= nil then table.insert(parts[goes], sub(text, from, at - 1)) end
      from, goes = at, has_bit
    end
  end
  if goes ~= nil then table.insert(parts[goes], sub(text, from)) end
  texts[source], texts[target] = table.concat(parts[false]), table.concat(parts[true])
  changed[source], changed[target] = true, true
end

-- A bucket that was not there before.
local function made(number)
  local slot = slot_of(number)
  texts[slot], read = '', slot
  return slot
end

-- Makes as many buckets as a line of so many wants.
local function grow(count)
  local last, half = wanted_for(count) - 1, whole
  for number = total, last do
    if number == 2 * half then half = number end
    if number - half < total then slot_of(number - half) end
  end
  fetch()
  for number = total, last do
    if number == 2 * whole then whole = number end
    split(slot_of(number - whole), made(number))
  end
end

-- Writes what changed; so many have joined by now.
function buckets.flush(count)
  grow(count)
  local written, size = {}, 0
  for slot in pairs(changed) do
    written[size + 1], written[size + 2] = fields[slot], texts[slot]
    size = size + 2
  end
  for first = 1, size, FIELDS_PER_CALL do
    redis.call('HSET', keys.index, unpack(written, first, math.min(size, first + FIELDS_PER_CALL - 1)))
  end
end
