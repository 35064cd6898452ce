-- What the line's transitions share: the record of a member, the sale's phase, the list of changes.

-- A buyer's internal id is 16 bytes; a member's record is the id and 6 bytes of big-endian joined_at_ms, so that
-- a million waiting buyers cost 22 MB here beside their entries in the index.
local BUYER_BYTES = 16
local RECORD_BYTES = 22
-- A Redis string holds 512 MB.
local LINE_MAX = 24000000
-- The calling rate is read from marks of the last minute, one every two seconds at most.
local MARK_MS = 2000
local MARKS = 31
-- A leader of before a store was lost has a lower fence than any after it: more leaders than this no epoch has.
local FENCES_PER_EPOCH = 1000000

-- Ids of access codes and of challenges; of none it is all zeros.
local ID_BYTES = 16
local NO_ID = string.rep('\0', ID_BYTES)
-- Codes of one sale; each costs some 90 bytes.
local CODES_MAX = 2000000

local function number_or(value, other)
  if value then return tonumber(value) end
  return other
end

-- Where the sale is in its life. Once the cohort is frozen the lobby is over, whatever the definition says.
local function phase_of(line)
  local def, now = line.def, line.now
  if now >= def.closes_ms then return 'CLOSED' end
  if now < def.opens_ms and not line.cohort then
    if now < def.lobby_opens_ms then return 'SCHEDULED' end
    return 'LOBBY'
  end
  if def.paused then return 'PAUSED' end
  return 'OPEN'
end

-- What a refusal for the phase names; `opens_ms` is when the next phase begins that could allow it.
local function phase_detail(line, needs)
  local phase = phase_of(line)
  local opens_ms = line.def.opens_ms
  if phase == 'SCHEDULED' then opens_ms = line.def.lobby_opens_ms end
  return {phase = phase, needs = needs, opens_ms = opens_ms, now = line.now}
end

-- Notes one change for the outbox under the next sequence of the sale.
local function change(line, fields)
  line.sequence = line.sequence + 1
  fields.sequence = line.sequence
  fields.at_ms = line.now
  line.changes[#line.changes + 1] = fields
end

-- Sets a field of the meta hash when the run ends.
local function put(line, name, value)
  line.dirty[#line.dirty + 1] = name
  line.dirty[#line.dirty + 1] = value
end

-- The lobby is over at the first run that sees the opening time: whoever has an index by then is in the draw. While
-- the store is filled again, not all are back who have one.
local function freeze_if_due(line)
  if line.cohort or line.is_filling or not line.def.line or line.now < line.def.opens_ms then return end
  line.cohort = line.count
  put(line, 'cohort', line.count)
  put(line, 'frozen_at', line.now)
  change(line, {act = 'FROZEN', cohort = line.count})
end

-- Moves `serving` forward, and notes a mark of the moment it was left.
local function move_serving(line, serving, at_ms)
  local marks = line.marks
  local last = marks[#marks]
  if not last or at_ms - last[1] >= MARK_MS then
    marks[#marks + 1] = {at_ms, line.serving}
    if #marks > MARKS then table.remove(marks, 1) end
    put(line, 'marks', cmsgpack.pack(marks))
  end
  line.serving = serving
  put(line, 'serving', serving)
end

-- Takes one use of a code, if it has one left. A code is kept as how often it may be used and how often it was.
local function use_code(codes, code)
  local record = redis.call('HGET', codes, code)
  if not record then return false end
  local uses, used = struct.unpack('>I4I4', record)
  if used >= uses then return false end
  redis.call('HSET', codes, code, struct.pack('>I4I4', uses, used + 1))
  return true
end

-- Counts a use that was made before, whatever may be used by now.
local function count_use(codes, code)
  local record = redis.call('HGET', codes, code)
  local uses, used = struct.unpack('>I4I4', record or NO_ID)
  redis.call('HSET', codes, code, struct.pack('>I4I4', uses, used + 1))
end

-- Lets a code be used so often in all; how often it may be until now, or −1 where it was not known.
local function put_code(codes, code, uses)
  local record = redis.call('HGET', codes, code)
  local before, used = -1, 0
  if record then before, used = struct.unpack('>I4I4', record) end
  if before ~= uses then redis.call('HSET', codes, code, struct.pack('>I4I4', uses, used)) end
  return before
end

-- Marks a solved challenge as used, until its time would be over anyway; false for none, or one that was used.
local function spend(spent, challenge, until_ms)
  if challenge == NO_ID or challenge == '' then return false end
  return redis.call('ZADD', spent, 'NX', until_ms, challenge) == 1
end

-- Notes that whoever stands at an index wants turn news, and says whether that is new.
local function note_asker(line, asked, index)
  if redis.call('SETBIT', asked, index, 1) == 1 then return false end
  if line.asked == 0 then
    line.told_come, line.told_near = line.serving, line.serving
    put(line, 'told_come', line.told_come)
    put(line, 'told_near', line.told_near)
  end
  line.asked = line.asked + 1
  put(line, 'asked', line.asked)
  return true
end

-- Appends the records of buyers who took consecutive indexes from line.count on. `used` are the codes they came by.
local function append_members(line, members, added, used)
  if #added == 0 then return end
  local stamp = struct.pack('>I6', line.now)
  redis.call('APPEND', members, table.concat(added, stamp) .. stamp)
  local codes = #used > 0 and table.concat(used) or nil
  change(line, {act = 'JOINED', index = line.count, buyers = table.concat(added), codes = codes})
  line.count = line.count + #added
  put(line, 'count', line.count)
end

-- The record of an index as lib/buckets.lua tells it: of who left it is −index − 1.
local function record_of(members, index)
  if index < 0 then index = -index - 1 end
  return redis.call('GETRANGE', members, index * RECORD_BYTES, (index + 1) * RECORD_BYTES - 1)
end

-- When the member of an index joined, in milliseconds.
local function joined_at(members, index)
  return (struct.unpack('>I6', record_of(members, index), BUYER_BYTES + 1))
end
