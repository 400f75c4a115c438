#!lua flags=no-writes
-- look(gateways) → {now_ms, {name, JSON, …}}
--
-- By a script, so that clock and beats are of the same server where there are several.
--
--   gateways  hash: name → JSON {life, address, leaving, at_ms}

local now = redis.call('TIME')
return {now[1] * 1000 + math.floor(now[2] / 1000), redis.call('HGETALL', KEYS[1])}
