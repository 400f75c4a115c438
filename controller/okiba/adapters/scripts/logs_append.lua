#!lua
-- append(F; slot, from, at_ms, dropped, body, max_bytes) → 1, or 0 when it was there already
--
--   F:logs        stream: slot, from, at, dropped, body; the oldest go once there are more than max_bytes
--   F:logs:ends   hash, slot → offset behind its last byte kept: a gateway that starts again pulls from 0 again
--   F:logs:bytes  sum of what the entries weigh, ENTRY each for the stream's own structures

local F, slot, from, body, max = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[5], tonumber(ARGV[6])
local logs, ends, bytes = F .. ':logs', F .. ':logs:ends', F .. ':logs:bytes'
local dropped = tonumber(ARGV[4])
local ENTRY = 96

local known = tonumber(redis.call('HGET', ends, slot) or 0)
if from + #body <= known then
  return 0
end
if from < known then
  body, from, dropped = string.sub(body, known - from + 1), known, 0
end
if #body > max then
  dropped = dropped + #body - max
  from = from + #body - max
  body = string.sub(body, -max)
end

redis.call('XADD', logs, '*', 'slot', slot, 'from', from, 'at', ARGV[3], 'dropped', dropped, 'body', body)
redis.call('HSET', ends, slot, from + #body)
local weight = redis.call('INCRBY', bytes, #body + ENTRY)
while weight > max + ENTRY do
  local oldest = redis.call('XRANGE', logs, '-', '+', 'COUNT', 1)[1]
  if not oldest then
    break
  end
  local field = oldest[2]
  redis.call('XDEL', logs, oldest[1])
  weight = redis.call('DECRBY', bytes, #field[10] + ENTRY)
  if tonumber(redis.call('HGET', ends, field[2]) or 0) == field[4] + #field[10] then
    redis.call('HDEL', ends, field[2]) -- the slot's last chunk
  end
end
for _, key in ipairs({logs, ends, bytes}) do
  redis.call('PERSIST', key) -- a function of this name had been deleted, and is back
end
return 1
