#!lua flags=no-writes
-- seen(F; event …) → for each: 1 known, 0 not
--
--   F:seen:EVENT  there while the event is open, and for as long as its end is remembered

local answers = {}
for i, event in ipairs(ARGV) do
  answers[i] = redis.call('EXISTS', KEYS[1] .. ':seen:' .. event)
end
return answers
