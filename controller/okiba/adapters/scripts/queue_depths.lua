#!lua flags=no-writes
-- depths(F) → {waiting and delayed, age of the oldest in ms}
--
-- The age is that of the first entry not yet delivered or of the retry that is due next, whichever is older.
--
--   F:queue    stream; ids of its entries are the times of acceptance by Redis's clock
--   F:delayed  sorted set by due time
--   F:work:ID  hash; `accepted` is a gateway's clock

local F = KEYS[1]
local queue, delayed = F .. ':queue', F .. ':delayed'
local retries = redis.call('ZCARD', delayed)

if redis.call('EXISTS', queue) == 0 then
  return {0, 0}
end
local group
for _, info in ipairs(redis.call('XINFO', 'GROUPS', queue)) do
  local fields = {}
  for i = 1, #info, 2 do
    fields[info[i]] = info[i + 1]
  end
  group = fields['name'] == 'dispatch' and fields or group
end
local pending, last = group and group['pending'] or 0, group and group['last-delivered-id'] or '0-0'

local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local since = now_ms
local first = redis.call('XRANGE', queue, '(' .. last, '+', 'COUNT', 1)
if first[1] then
  since = math.min(since, tonumber(string.match(first[1][1], '^%d+')))
end
local next_due = redis.call('ZRANGE', delayed, 0, 0)
if next_due[1] then
  since = math.min(since, tonumber(redis.call('HGET', F .. ':work:' .. next_due[1], 'accepted')) or since)
end
return {math.max(redis.call('XLEN', queue) - pending, 0) + retries, now_ms - since}
