#!lua
-- accept(F; for each work: event, id, payload, source, accepted_ms, trace, context) → for each: 1 taken, 0 seen before
--
--   F:seen:EVENT  what makes a duplicate a duplicate; `open` until the work ends, then how it ended, with an expiry
--   F:queue       stream of request ids in the order accepted; an entry stays until its work ends
--   F:work:ID     hash, the work; gone when it ends
--
-- Refused when memory is full (no allow-oom): nothing may be promised then.

local F = KEYS[1]
local queue = F .. ':queue'
local answers = {}

if redis.call('EXISTS', queue) == 0 then
  redis.call('XGROUP', 'CREATE', queue, 'dispatch', '0', 'MKSTREAM')
end

for i = 1, #ARGV, 7 do
  local event, id = ARGV[i], ARGV[i + 1]
  local taken = 0
  if redis.call('SET', F .. ':seen:' .. event, 'open', 'NX') then
    local entry = redis.call('XADD', queue, '*', 'r', id)
    redis.call('HSET', F .. ':work:' .. id, 'event', event, 'payload', ARGV[i + 2], 'source', ARGV[i + 3],
      'accepted', ARGV[i + 4], 'trace', ARGV[i + 5], 'context', ARGV[i + 6],
      'attempts', 0, 'losses', 0, 'leases', 0, 'entry', entry, 'token', '')
    taken = 1
  end
  answers[#answers + 1] = taken
end
return answers
