-- Purpose: lets each access code be used so many times in all; what was used of a code stays used. None closes it.
-- KEYS: codes
-- ARGV: codes, uses
-- Returns: CODES, NO_LINE, WRONG_PHASE, OVERLOADED
if not line.def.line then return {word = 'NO_LINE'} end
local phase = phase_of(line)
if phase == 'CLOSED' then return {word = 'WRONG_PHASE', detail = phase_detail(line, 'before CLOSED')} end
local codes, known = cmd.codes, redis.call('HLEN', keys.codes)
if known + #codes / ID_BYTES > CODES_MAX then return {word = 'OVERLOADED'} end

-- After this point nothing can fail.
local added, changed = 0, {}
for at = 1, #codes, ID_BYTES do
  local code = string.sub(codes, at, at + ID_BYTES - 1)
  local before = put_code(keys.codes, code, cmd.uses)
  if before < 0 then added = added + 1 end
  if before ~= cmd.uses then changed[#changed + 1] = code end
end
if #changed > 0 then change(line, {act = 'CODES', codes = table.concat(changed), uses = cmd.uses}) end
return {word = 'CODES', added = added, changed = #changed - added, known = known + added}
