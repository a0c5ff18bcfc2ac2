#!lua name=vestibule_bus_1
-- Where a shard stands, said in the stream of whoever asks.

-- KEYS: the shard's hash (see timeline.lua). ARGS: the asker's channel, the question's number, PUBLISH or SPUBLISH
local function tick(keys, args)
  local shard = redis.call('HMGET', keys[1], 'e', 'q')
  local at = (shard[1] or '0') .. '-' .. (shard[2] or '0')
  redis.call(args[3], args[1], table.concat({ 'T', at, args[2] }, '\n'))
  return 1
end

redis.register_function('vb1_tick', tick)
