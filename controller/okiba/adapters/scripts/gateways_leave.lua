#!lua flags=allow-oom
-- leave(gateways; name, life) → 1, or 0 when it is not there any more, or has a later life
--
--   gateways  hash: name → JSON {life, …}

local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and cjson.decode(known).life == tonumber(ARGV[2]) then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
