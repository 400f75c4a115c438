#!lua flags=allow-oom
-- retry(F; id, token, due_ms, lost, gives_back) → 1, or 0 when the token is void
--
--   F:work:ID  hash; losing its token makes the attempt void. `lost` and `gives_back` are 0 or 1
--   F:delayed  sorted set, score due_ms; the stream's entry stays pending

local F, id, token = KEYS[1], ARGV[1], ARGV[2]
local key = F .. ':work:' .. id

if token == '' or redis.call('HGET', key, 'token') ~= token then
  return 0
end
redis.call('HSET', key, 'token', '')
redis.call('HINCRBY', key, 'losses', ARGV[4])
if ARGV[5] == '1' then
  redis.call('HINCRBY', key, 'attempts', -1)
end
redis.call('ZADD', F .. ':delayed', ARGV[3], id)
return 1
