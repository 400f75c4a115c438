#!lua flags=allow-oom
-- answered(asked; bucket, ask) → 1, or 0 when something else has been asked since
--
--   asked  hash: bucket → JSON of the ask

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
