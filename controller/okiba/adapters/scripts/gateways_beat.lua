#!lua flags=allow-oom
-- beat(gateways; name, life, address, leaving, forget_ms) → {now_ms, {name, JSON, …}}, or {0, {}} when `name` has a later life
--
--   gateways  hash: name → JSON {life, address, leaving, at_ms}; entries that are older than forget_ms go

local name, life = ARGV[1], tonumber(ARGV[2])
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local known = redis.call('HGET', KEYS[1], name)
if known and cjson.decode(known).life > life then
  return {0, {}}
end
local entry = {life = life, address = ARGV[3], leaving = ARGV[4] == '1', at_ms = now_ms}
redis.call('HSET', KEYS[1], name, cjson.encode(entry))
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
  if now_ms - cjson.decode(entries[i + 1]).at_ms > tonumber(ARGV[5]) then
    redis.call('HDEL', KEYS[1], entries[i])
  end
end
return {now_ms, entries}
