-- Purpose: Reads every section's counts and the states of every seat at one moment, if anything changed since.
-- KEYS: none
-- ARGV: since, epoch
-- Returns: MAP, UNCHANGED
transitions.map = function(cmd)
  -- A store that was filled again may have come to the same sequence another way.
  if cmd.since == view.meta.sequence and cmd.epoch == view.meta.epoch then
    return { word = 'UNCHANGED' }
  end
  local states = {}
  for _, section in ipairs(view.def.sections) do
    if section.seats then
      states[section.id] = maps.text(section.id, section.capacity)
    end
  end
  return { word = 'MAP', epoch = view.meta.epoch, sections = account.sections(), states = states }
end
