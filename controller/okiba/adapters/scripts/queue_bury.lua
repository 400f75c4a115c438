#!lua flags=allow-oom
-- bury(F; id, token, event, remember_ms, end, reason, attempts, losses, error, keep_ms) → 1, or 0 when the token is void
--
--   F:work:ID     hash; becomes an entry of F:dead, whole
--   F:dead        stream of dead letters; those older than keep_ms go, by Redis's clock
--   F:seen:EVENT  `end`: dead or expired

local F, id, token = KEYS[1], ARGV[1], ARGV[2]
local key, queue, dead = F .. ':work:' .. id, F .. ':queue', F .. ':dead'

if token == '' or redis.call('HGET', key, 'token') ~= token then
  return 0
end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local entry = string.match(token, '^[^/]+')
local work = redis.call('HMGET', key, 'payload', 'source', 'accepted', 'trace', 'context')
redis.call('XADD', dead, '*', 'id', id, 'event', ARGV[3], 'payload', work[1], 'source', work[2], 'accepted', work[3],
  'trace', work[4], 'context', work[5], 'reason', ARGV[6], 'attempts', ARGV[7], 'losses', ARGV[8],
  'error', ARGV[9], 'died', string.format('%.0f', now_ms))
redis.call('XTRIM', dead, 'MINID', '~', string.format('%.0f', now_ms - ARGV[10]))
redis.call('PERSIST', dead) -- a function of this name had been deleted, and is back
redis.call('SET', F .. ':seen:' .. ARGV[3], ARGV[5], 'PX', ARGV[4])
redis.call('UNLINK', key)
redis.call('XACK', queue, 'dispatch', entry)
redis.call('XDEL', queue, entry)
return 1
