-- fleet_tell KEYS[1] fleet  ARGV[1] epoch  ARGV[2] record  ARGV[3] ttl  →  1 told | 0 a later leader has told
--
-- Says where the leading controller deals slots, unless a later leader has said so already.
--
--   fleet   okiba:fleet, JSON {address, epoch, at_ms}; absent: nobody leads, or not for a while
--   epoch   the teller's, from okiba:fleet:epoch
--   record  the new JSON
--   ttl     milliseconds after which it is forgotten
local stored = redis.call('GET', KEYS[1])
if stored and cjson.decode(stored).epoch > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
