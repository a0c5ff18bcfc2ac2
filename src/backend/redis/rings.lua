#!lua name=vestibule_rings_1
-- Which shards share the rooms: the newest plan that this shard has heard of, in its hash (see timeline.lua) as `ring`, with
-- its version `rv` and its fence.

-- KEYS: shard. ARGS: version, fence, plan. Answers the plan that is kept then.
local function put(keys, args)
  local known = redis.call('HMGET', keys[1], 'rv', 'fence')
  if tonumber(args[1]) > tonumber(known[1] or '0') then
    redis.call('HSET', keys[1], 'rv', args[1], 'ring', args[3])
    if tonumber(args[2]) > tonumber(known[2] or '0') then redis.call('HSET', keys[1], 'fence', args[2]) end
  end
  return redis.call('HGET', keys[1], 'ring')
end

redis.register_function('vb1_ring_put', put)
