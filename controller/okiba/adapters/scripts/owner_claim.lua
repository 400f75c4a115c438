#!lua flags=allow-oom
-- claim(F; gateway, life, epoch read, doubts) → the new epoch, or 0 when the record is no longer what was read
--
--   F:owner  hash: gateway, life, epoch, until (0: as long as its gateway lives, else when it was given up, ms by Redis's
--            clock), doubts and handed (JSON, see okiba.core.placement). An absent one has epoch 0
--
-- allow-oom: what is there already must be drained by somebody.

local owner = KEYS[1] .. ':owner'
local epoch = tonumber(redis.call('HGET', owner, 'epoch') or 0)
if epoch ~= tonumber(ARGV[3]) then
  return 0
end
local new = math.max(epoch + 1, tonumber(ARGV[2]))
redis.call('HSET', owner, 'gateway', ARGV[1], 'life', ARGV[2], 'epoch', new, 'until', 0, 'doubts', ARGV[4])
redis.call('HDEL', owner, 'handed')
redis.call('PERSIST', owner) -- a function of this name had been deleted, and is back
return new
