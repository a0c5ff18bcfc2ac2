
-- The move of a room to its place on a newer ring. Nothing is applied to it at its old place any more, because that knows
-- the ring (the fence); then what it holds is read there and written at the new place. Each step may be repeated.

-- What a room holds here, which is all that it will ever hold here.
-- KEYS: shard, meta, stream, open, dedup hashes. ARGS: ring version
local function leave(keys, args)
  if not raise_fence(keys[1], args[1]) then return { 'MOVED', redis.call('HGET', keys[1], 'fence') } end
  if not redis.call('HGET', keys[2], 'n') then
    if redis.call('EXISTS', keys[2]) == 1 then redis.call('HSET', keys[2], 'mv', args[1]) end
    return { 'NOTHING' }
  end
  redis.call('HSET', keys[2], 'mv', args[1])
  redis.call('PERSIST', keys[3])
  local answer = { 'ROOM', redis.call('HGETALL', keys[2]), redis.call('HGETALL', keys[4]),
    redis.call('XRANGE', keys[3], '-', '+') }
  for i = 5, #keys do answer[i] = redis.call('HGETALL', keys[i]) end
  return answer
end

-- Takes a room in, unless it is here already.
-- KEYS: shard, meta, stream, open, dedup hashes. ARGS: ring version, the shard it comes from, the highest epoch that it
-- knows, window, ttl, then lists, each after its length: the room's fields, what is not settled, of each entry its id and
-- its fields, and the dedup hashes
local function arrive(keys, args)
  if not raise_fence(keys[1], args[1]) then return { 'MOVED', redis.call('HGET', keys[1], 'fence') } end
  local meta, stream, open = keys[2], keys[3], keys[4]
  local room = redis.call('HMGET', meta, 'n', 'here', 'mv')
  if not room[3] and (room[1] or room[2]) then return { 'HERE' } end
  -- Its places rise, so what is written here next must not be in an older epoch.
  if tonumber(args[3]) > tonumber(redis.call('HGET', keys[1], 'e') or '0') then return { 'BEHIND' } end
  redis.call('DEL', meta, stream, open)
  local at = 6
  local function take()
    local count = tonumber(args[at])
    local list = {}
    for i = 1, count do list[i] = args[at + i] end
    at = at + count + 1
    return list
  end
  redis.call('HSET', meta, 'here', '1')
  local fields = take()
  for i = 1, #fields, 2 do
    if fields[i] ~= 'mv' then redis.call('HSET', meta, fields[i], fields[i + 1]) end
  end
  local mark = redis.call('HMGET', meta, 'tn', 'th')
  if mark[1] and (mark[2] or '') == '' then redis.call('HSET', meta, 'th', args[2]) end
  local unsettled = take()
  for i = 1, #unsettled, 2 do redis.call('HSET', open, unsettled[i], unsettled[i + 1]) end
  local entries = tonumber(args[at])
  at = at + 1
  for _ = 1, entries do
    local id = args[at]
    at = at + 1
    local entry = take()
    if #entry == 12 then
      entry[13], entry[14] = 'h', args[2]
    end
    redis.call('XADD', stream, id, unpack(entry))
  end
  if entries > 0 and #unsettled == 0 then redis.call('PEXPIRE', stream, args[5]) end
  for i = 5, #keys do
    local ids = take()
    for n = 1, #ids, 2 do redis.call('HSET', keys[i], ids[n], ids[n + 1]) end
    if #ids > 0 then redis.call('PEXPIRE', keys[i], 3 * tonumber(args[4])) end
  end
  return { 'OK' }
end

-- Begins an epoch because of a room that comes from a shard in a later one: nothing is lost by it.
-- KEYS: shard. ARGS: the epoch
local function lift(keys, args)
  local shard = redis.call('HMGET', keys[1], 'e', 'q')
  if tonumber(args[1]) > tonumber(shard[1] or '0') then
    if shard[1] then redis.call('HSET', keys[1], 'end:' .. shard[1], shard[2] or '0') end
    redis.call('HSET', keys[1], 'e', args[1], 'q', '0')
  end
  return redis.call('HGET', keys[1], 'e')
end

-- What has left is kept for a while, should its new place lose it. KEYS: meta, stream, open. ARGS: ms
local function forget(keys, args)
  if not redis.call('HGET', keys[1], 'mv') then return 0 end
  for i = 1, #keys do redis.call('PEXPIRE', keys[i], args[1]) end
  return 1
end

-- From now on callers who place rooms by an older ring are refused. KEYS: shard. ARGS: ring version
local function fence(keys, args)
  raise_fence(keys[1], args[1])
  return redis.call('HGET', keys[1], 'fence')
end

redis.register_function('vb1_leave_room', leave)
redis.register_function('vb1_arrive', arrive)
redis.register_function('vb1_lift', lift)
redis.register_function('vb1_forget', forget)
redis.register_function('vb1_fence', fence)
