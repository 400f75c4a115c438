#!lua flags=allow-oom
-- forget(F; keep_ms) → 1 when the queue is gone, 0 when there is open work in it
--
--   F:queue    stream; empty when every work has ended
--   F:delayed  sorted set; empty then
--   F:dead     dead letters, kept for keep_ms more

local F = KEYS[1]
if redis.call('EXISTS', F .. ':queue') == 1 and redis.call('XLEN', F .. ':queue') > 0 then
  return 0
end
redis.call('DEL', F .. ':queue', F .. ':delayed')
redis.call('PEXPIRE', F .. ':dead', ARGV[1])
return 1
