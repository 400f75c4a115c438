#!lua flags=allow-oom
-- claim(ingest; consumer, idle_ms, cursor, count, forget_ms) → {next cursor (0-0: all looked through), how many claimed}
--
-- What others have read and not settled for idle_ms becomes this consumer's; consumers that have nothing pending and
-- have not been heard of for forget_ms are removed.
--
--   ingest  stream of raw notifications, group `route`

local claimed = redis.pcall('XAUTOCLAIM', KEYS[1], 'route', ARGV[1], ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'JUSTID')
if claimed.err then -- no group yet, so nothing is pending
  return {'0-0', 0}
end
if claimed[1] == '0-0' then
  for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'route')) do
    local fields = {}
    for i = 1, #info, 2 do
      fields[info[i]] = info[i + 1]
    end
    if fields['name'] ~= ARGV[1] and fields['pending'] == 0 and fields['idle'] > tonumber(ARGV[5]) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'route', fields['name'])
    end
  end
end
return {claimed[1], #claimed[2]}
