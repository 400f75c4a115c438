-- registry_put KEYS[1] function  ARGV[1] replaces  ARGV[2] generation  ARGV[3] record  →  1 stored | 0 refused
--
-- Stores a function's record if it replaces what its writer has read.
--
--   function    okiba:{tenant/NAME}:function, the record's JSON; absent: no such function
--   replaces    the revision that must be there; empty: there must be no record
--   generation  the count that must be there, as the writer read it; the new record has it increased by one
--   record      the new JSON
local stored = redis.call('GET', KEYS[1])
if ARGV[1] == '' then
  if stored then return 0 end
else
  if not stored then return 0 end
  local current = cjson.decode(stored)
  if current.revision ~= ARGV[1] or (current.generation or 0) ~= tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[3])
return 1
