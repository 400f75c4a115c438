#!lua flags=allow-oom
-- recover(F; consumer, cursor, epoch, held ids …) → {next cursor (0-0: done), how many}
--
-- Puts everything that is leased, by whomever, and not held, back into F:delayed as due since ever, at no cost to it;
-- what a lease reads next. Consumers that have nothing pending any more are removed.
--
--   F:queue    stream; XAUTOCLAIM may find nothing and still have more to look through
--   F:owner    hash; its epoch must be the one named, unless that is 0: a former owner gets nothing
--   F:delayed  what waits for a retry is pending too, and stays as it is
--   F:work:ID  hash; an empty token makes the lease void

local F, consumer, cursor = KEYS[1], ARGV[1], ARGV[2]
local queue, delayed = F .. ':queue', F .. ':delayed'
local count, held = 0, {}
for i = 4, #ARGV do
  held[ARGV[i]] = true
end

if redis.call('EXISTS', queue) == 0 or (ARGV[3] ~= '0' and redis.call('HGET', F .. ':owner', 'epoch') ~= ARGV[3]) then
  return {'0-0', 0}
end
local claimed = redis.pcall('XAUTOCLAIM', queue, 'dispatch', consumer, 0, cursor, 'COUNT', 100)
if claimed.err then -- no group, so nothing is pending
  return {'0-0', 0}
end
for _, item in ipairs(claimed[2]) do
  local id = item[2][2]
  local key = F .. ':work:' .. id
  if redis.call('EXISTS', key) == 0 then
    redis.call('XACK', queue, 'dispatch', item[1])
    redis.call('XDEL', queue, item[1])
  elseif not held[id] and not redis.call('ZSCORE', delayed, id) then
    if redis.call('HGET', key, 'token') ~= '' then
      redis.call('HINCRBY', key, 'attempts', -1)
    end
    redis.call('HSET', key, 'token', '')
    redis.call('ZADD', delayed, 0, id)
    count = count + 1
  end
end
if claimed[1] == '0-0' then
  for _, other in ipairs(redis.call('XINFO', 'CONSUMERS', queue, 'dispatch')) do
    if other[2] ~= consumer and other[4] == 0 then
      redis.call('XGROUP', 'DELCONSUMER', queue, 'dispatch', other[2])
    end
  end
end
return {claimed[1], count}
