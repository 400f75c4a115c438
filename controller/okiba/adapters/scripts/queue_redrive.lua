#!lua
-- redrive(F; letter, now_ms) → 1 | 0 there is no such letter | 2 its event is open already
--
-- The dead letter becomes work again, with all its attempts before it, under the ids it had.
--
--   F:dead        stream of dead letters, in the order of fields that queue_bury writes
--   F:work:ID     hash; made anew, accepted now: its age starts again
--   F:seen:EVENT  `open` again

local F = KEYS[1]
local dead, queue = F .. ':dead', F .. ':queue'
local letter = redis.call('XRANGE', dead, ARGV[1], ARGV[1])[1]
if not letter then
  return 0
end
local kept = {}
for i = 1, #letter[2], 2 do
  kept[letter[2][i]] = letter[2][i + 1]
end
local key = F .. ':work:' .. kept['id']
if redis.call('EXISTS', key) == 1 then
  return 2
end
if redis.call('EXISTS', queue) == 0 then
  redis.call('XGROUP', 'CREATE', queue, 'dispatch', '0', 'MKSTREAM')
end
redis.call('SET', F .. ':seen:' .. kept['event'], 'open')
local entry = redis.call('XADD', queue, '*', 'r', kept['id'])
redis.call('HSET', key, 'event', kept['event'], 'payload', kept['payload'], 'source', kept['source'],
  'accepted', ARGV[2], 'trace', kept['trace'], 'context', kept['context'],
  'attempts', 0, 'losses', 0, 'leases', 0, 'entry', entry, 'token', '')
redis.call('XDEL', dead, letter[1])
return 1
