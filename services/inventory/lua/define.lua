-- Purpose: Takes a definition of a higher revision; capacity may only grow.
-- KEYS: none
-- ARGV: revision, def, layouts
-- Returns: DEFINED, UNCHANGED, DEFINITION_FIXED
transitions.define = function(cmd)
  if cmd.revision <= view.meta.revision then
    return { word = 'UNCHANGED' }
  end
  local capacities, layouts = {}, {}
  for _, section in ipairs(cmd.def.sections) do
    capacities[section.id] = section.capacity
    layouts[section.id] = section.seats and section.seats.digest
  end
  for id, section in pairs(units.sections()) do
    if (capacities[id] or 0) < section.capacity then
      return refuse('DEFINITION_FIXED', { path = 'sections.' .. id .. '.capacity', capacity = section.capacity })
    end
    local seated = view.def.by_section[id] and seats.of(id)
    if (seated and seated.digest) ~= layouts[id] then
      return refuse('DEFINITION_FIXED', { path = 'sections.' .. id .. '.seats' })
    end
  end
  -- After this point nothing can fail.
  view.save_def(cmd.def)
  view.meta.revision = cmd.revision
  changes.add('DEFINED', { quantity = units.define(cmd.def, cmd.layouts), watermark = cmd.revision })
  return { word = 'DEFINED' }
end
