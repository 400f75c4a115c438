#!lua flags=allow-oom
-- give_up(F; gateway, epoch, doubts, handed, keep_ms) → 1, or 0 when somebody else owns it by now
--
--   F:owner  hash; `until` says since when anyone may take it, `handed` which slots it has
--   keep_ms  how long the record stays; 0: for ever

local owner = KEYS[1] .. ':owner'
local held = redis.call('HMGET', owner, 'gateway', 'epoch')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return 0
end
local now = redis.call('TIME')
local now_ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HSET', owner, 'until', now_ms, 'doubts', ARGV[3], 'handed', ARGV[4])
if ARGV[5] ~= '0' then
  redis.call('PEXPIRE', owner, ARGV[5])
end
return 1
