#!lua name=vestibule_recovery_1
-- What sockets were, for clients that come back.
--
--   {tag}:r:ID  hash  g generation, e the shard's epoch when it was written, u user, s socket id, o the process and worker
--                     that own it, r:ROOM where it joined a room. TTL.
-- KEYS[1] is the socket's, the shard's hash (see timeline.lua) comes next.

-- Everything. ARGS: generation, ttl, owner, user, socket id, then rooms and where each was joined
local function begin(keys, args)
  local known = redis.call('HGET', keys[1], 'g')
  if known and tonumber(known) > tonumber(args[1]) then return 'TAKEN' end
  redis.call('DEL', keys[1])
  local epoch = redis.call('HGET', keys[2], 'e') or '0'
  redis.call('HSET', keys[1], 'g', args[1], 'e', epoch, 'o', args[3], 'u', args[4], 's', args[5])
  for i = 6, #args, 2 do redis.call('HSET', keys[1], 'r:' .. args[i], args[i + 1]) end
  redis.call('PEXPIRE', keys[1], args[2])
  return 'KEPT'
end

-- Whether what is there is the caller's and counts.
local function standing(socket, shard_epoch, generation)
  local known = redis.call('HMGET', socket, 'g', 'e')
  if not known[1] then return 'GONE' end
  if tonumber(known[1]) > tonumber(generation) then return 'TAKEN' end
  -- Older than the caller knows, or of an epoch that has ended: writes were lost.
  if known[1] ~= generation or known[2] ~= shard_epoch then return 'GONE' end
  return 'KEPT'
end

-- One room. ARGS: generation, ttl, room, where it was joined or ''
local function change(keys, args)
  local stands = standing(keys[1], redis.call('HGET', keys[2], 'e') or '0', args[1])
  if stands ~= 'KEPT' then return stands end
  if args[4] == '' then
    redis.call('HDEL', keys[1], 'r:' .. args[3])
  else
    redis.call('HSET', keys[1], 'r:' .. args[3], args[4])
  end
  redis.call('PEXPIRE', keys[1], args[2])
  return 'KEPT'
end

-- ARGS: user, ttl, owner, the run id of the server. Answers YES, the generation, the owner before, the socket id, and
-- rooms and where each was joined; or why not.
local function take(keys, args)
  local fields = redis.call('HGETALL', keys[1])
  if #fields == 0 then return { 'UNKNOWN' } end
  local known, rooms = {}, {}
  for i = 1, #fields, 2 do
    local room = string.match(fields[i], '^r:(.*)$')
    if room then
      rooms[#rooms + 1] = room
      rooms[#rooms + 1] = fields[i + 1]
    else
      known[fields[i]] = fields[i + 1]
    end
  end
  if known.u ~= args[1] then return { 'UNKNOWN' } end
  local shard = redis.call('HMGET', keys[2], 'e', 'run')
  -- The server is another process than the shard knows, and nobody has raised its epoch yet.
  if shard[2] ~= args[4] then return { 'WAIT' } end
  if known.e ~= shard[1] then return { 'UNTRUSTED' } end
  local generation = redis.call('HINCRBY', keys[1], 'g', 1)
  redis.call('HSET', keys[1], 'o', args[3])
  redis.call('PEXPIRE', keys[1], args[2])
  local answer = { 'YES', tostring(generation), known.o or '', known.s }
  for i = 1, #rooms do answer[i + 4] = rooms[i] end
  return answer
end

-- KEYS: the shard's hash, then sockets'. ARGS: ttl, then their generations
local function touch(keys, args)
  local epoch = redis.call('HGET', keys[1], 'e') or '0'
  local answer = {}
  for i = 2, #keys do
    local stands = standing(keys[i], epoch, args[i])
    if stands == 'KEPT' then redis.call('PEXPIRE', keys[i], args[1]) end
    answer[i - 1] = stands
  end
  return answer
end

-- ARGS: generation, ttl, 1 if its client is not to come back
local function finish(keys, args)
  if redis.call('HGET', keys[1], 'g') ~= args[1] then return 0 end
  if args[3] == '1' then return redis.call('DEL', keys[1]) end
  redis.call('HDEL', keys[1], 'o')
  return redis.call('PEXPIRE', keys[1], args[2])
end

redis.register_function('vb1_recovery_begin', begin)
redis.register_function('vb1_recovery_change', change)
redis.register_function('vb1_recovery_take', take)
redis.register_function('vb1_recovery_touch', touch)
redis.register_function('vb1_recovery_end', finish)
