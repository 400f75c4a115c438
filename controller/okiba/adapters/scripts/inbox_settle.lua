#!lua flags=allow-oom
-- settle(ingest; entry …) → how many were still there
--
--   ingest  stream of raw notifications, group `route`

redis.call('XACK', KEYS[1], 'route', unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV))
