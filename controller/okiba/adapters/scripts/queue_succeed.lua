#!lua flags=allow-oom
-- succeed(F; id, token, event, remember_ms) → 1, or 0 when the token is void
--
--   F:work:ID     hash; its `token` is that of the one attempt that may settle
--   F:seen:EVENT  the ledger's entry, kept for remember_ms more
--   F:queue       the token starts with its entry there

local F, id, token = KEYS[1], ARGV[1], ARGV[2]
local key, queue = F .. ':work:' .. id, F .. ':queue'

if token == '' or redis.call('HGET', key, 'token') ~= token then
  return 0
end
local entry = string.match(token, '^[^/]+')
redis.call('SET', F .. ':seen:' .. ARGV[3], 'succeeded', 'PX', ARGV[4])
redis.call('UNLINK', key)
redis.call('XACK', queue, 'dispatch', entry)
redis.call('XDEL', queue, entry)
return 1
