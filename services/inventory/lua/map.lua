-- Purpose: Reads every section's counts and the states of every seat at one moment, if anything changed since.
-- KEYS: none
-- ARGV: since
-- Returns: MAP, UNCHANGED
transitions.map = function(cmd)
  if cmd.since == view.meta.sequence then
    return { word = 'UNCHANGED' }
  end
  local states = {}
  for _, section in ipairs(view.def.sections) do
    if section.seats then
      states[section.id] = maps.text(section.id, section.capacity)
    end
  end
  return { word = 'MAP', sections = account.sections(), states = states }
end
