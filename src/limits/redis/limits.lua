#!lua name=vestibule_limits_1
-- How often somebody may do something, shared by all nodes: GCRA as in gcra.rs, on the server's clock.
--
--   {tag}:l:NAME:KEY  string  when all tokens are back, in microseconds since the Unix epoch; expires then
--
-- Microseconds of our time are exact as doubles: they need 51 of 53 bits.

local function text(number) return string.format('%.0f', number) end

-- The time in microseconds, in whole milliseconds.
local function clock(given)
  if given ~= '' then return tonumber(given) * 1000 end
  local time = redis.call('TIME')
  return (tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)) * 1000
end

-- What is past is full, what is too far ahead is a clock that was set back.
local function known(key, now, capacity)
  local full = tonumber(redis.call('GET', key) or '0') or 0
  return full, math.min(math.max(full, now), now + capacity)
end

local function remember(key, full, now, given)
  local ms = math.max(1, math.ceil((full - now) / 1000))
  -- Another clock than the server's: a minute more, so that nothing is forgotten before its time.
  if given ~= '' then ms = ms + 60000 end
  redis.call('SET', key, text(full), 'PX', text(ms))
end

-- Takes one token. KEYS: the limit's. ARGS: count, interval (µs), a time in ms or '' for the server's
-- Answers in how many µs all tokens are back, and in how many the next one comes: 0 if it was had.
local function take(keys, args)
  local interval, now = tonumber(args[2]), clock(args[3])
  local capacity = interval * tonumber(args[1])
  local full, from = known(keys[1], now, capacity)
  local to = from + interval
  local over = to - now - capacity
  if over > 0 then
    if full ~= from then remember(keys[1], from, now, args[3]) end
    return { text(from - now), text(over) }
  end
  remember(keys[1], to, now, args[3])
  return { text(to - now), '0' }
end

-- The same without taking one.
local function look(keys, args)
  local interval, now = tonumber(args[2]), clock(args[3])
  local capacity = interval * tonumber(args[1])
  local _, from = known(keys[1], now, capacity)
  return { text(from - now), text(math.max(0, from - now + interval - capacity)) }
end

redis.register_function('vb1_take', take)
redis.register_function { function_name = 'vb1_left', callback = look, flags = { 'no-writes' } }
