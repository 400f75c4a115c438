#!lua flags=allow-oom
-- make_group(ingest) → 1 made, 0 there already
--
--   ingest  stream of raw notifications; its group `route` begins at the beginning
--
-- allow-oom: when memory is full, reading is what makes room.

local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], 'route', '0', 'MKSTREAM')
if not made.err then
  return 1
end
return string.find(made.err, 'BUSYGROUP', 1, true) and 0 or made
