#!lua flags=allow-oom
-- lease(F; consumer, count, now_ms, epoch) → {waiting, {id, event, payload, source, accepted, trace, context, losses, attempt, token} …}
--
--   F:queue    stream, group `dispatch`: what has been delivered and has not ended is pending in it
--   F:delayed  sorted set of request ids whose next attempt is due at score (ms); they stay pending meanwhile
--   F:owner    hash; its epoch must be the one named, unless that is 0: a former owner gets nothing
--   F:work:ID  hash; `leases` counts up so that every token (entry/lease) is new; `token` is empty between attempts
--
-- allow-oom: draining is the way out of full memory.

local F, consumer, count, now = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local queue, delayed = F .. ':queue', F .. ':delayed'
local answer = {0}

local function lease(id, entry)
  local key = F .. ':work:' .. id
  local work = redis.call('HMGET', key, 'event', 'payload', 'source', 'accepted', 'trace', 'context', 'losses',
    'attempts', 'leases')
  if not work[1] then -- ended already: told again after the stream's group was lost
    redis.call('XACK', queue, 'dispatch', entry)
    redis.call('XDEL', queue, entry)
    return
  end
  local attempt, leases = work[8] + 1, work[9] + 1
  local token = entry .. '/' .. leases
  redis.call('HSET', key, 'attempts', attempt, 'leases', leases, 'token', token)
  answer[#answer + 1] = {id, work[1], work[2], work[3], work[4], work[5], work[6], work[7], attempt, token}
end

if redis.call('EXISTS', queue) == 0 or (ARGV[4] ~= '0' and redis.call('HGET', F .. ':owner', 'epoch') ~= ARGV[4]) then
  return answer
end
local pending = redis.pcall('XPENDING', queue, 'dispatch')
if pending.err then -- the group is gone, the work is not
  redis.call('XGROUP', 'CREATE', queue, 'dispatch', '0')
  pending = {0}
end

local due = redis.call('ZRANGE', delayed, '-inf', now, 'BYSCORE', 'LIMIT', 0, count)
for _, id in ipairs(due) do
  redis.call('ZREM', delayed, id)
  local entry = redis.call('HGET', F .. ':work:' .. id, 'entry')
  if entry then
    redis.call('XCLAIM', queue, 'dispatch', consumer, 0, entry, 'FORCE', 'JUSTID')
    lease(id, entry)
  end
end

local delivered = 0
if count > #due then
  local reply = redis.call('XREADGROUP', 'GROUP', 'dispatch', consumer, 'COUNT', count - #due, 'STREAMS', queue, '>')
  for _, item in ipairs(reply and reply[1][2] or {}) do
    delivered = delivered + 1
    if not redis.call('ZSCORE', delayed, item[2][2]) then
      lease(item[2][2], item[1])
    end
  end
end

answer[1] = math.max(redis.call('XLEN', queue) - pending[1] - delivered, 0)
return answer
