#!lua name=vestibule_caches_1
-- Values that nodes share, on the shard of their key.
--
--   {tag}:x:CACHE:KEY  string  `RUN ERA MS VALUE`: what a node read from the store at MS. Expires with the value's time
--   {tag}:xg           hash    bucket -> how often a key of it was forgotten; era -> how often all of them were. No TTL
--
-- A value may be kept only if nothing was forgotten since the question before it was read: the answer to the
-- question is a ticket, and forgetting makes tickets of the key's bucket worthless. So what was read before a
-- change never survives it. What the server kept through a restart is not believed, because the restart may
-- have lost the word to forget it.

local process
-- This server process. Asked once: a new process has new functions.
local function run()
  if not process then process = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') end
  return process
end

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- How often the bucket and everything was forgotten.
local function forgotten(key, bucket)
  local counts = redis.call('HMGET', key, bucket, 'era')
  return counts[1] or '0', counts[2] or '0'
end

-- When a value was read, and where it begins; nothing if it is not to be believed.
local function opened(value, era)
  if not value then return nil end
  local of_run, of_era, at, from = string.match(value, '^(%w+) (%d+) (%d+) ()')
  if of_run == run() and of_era == era then return tonumber(at), from end
end

-- KEYS: xg, the value's. ARGS: bucket. Answers a ticket, then how old the value is in ms and the value, if there is one.
local function found(keys, args)
  local count, era = forgotten(keys[1], args[1])
  local now = clock()
  local ticket = table.concat({ run(), era, count, string.format('%.0f', now) }, ' ')
  local value = redis.call('GET', keys[2])
  local at, from = opened(value, era)
  if not at then return { ticket } end
  return { ticket, math.max(0, now - at), string.sub(value, from) }
end

-- KEYS: the same. ARGS: bucket, ticket, time to live in ms, value. Answers whether it is kept.
local function keep(keys, args)
  local count, era = forgotten(keys[1], args[1])
  local of_run, of_era, of_count, at = string.match(args[2], '^(%w+) (%d+) (%d+) (%d+)$')
  if of_run ~= run() or of_era ~= era or of_count ~= count then return 0 end
  local left = tonumber(args[3]) - math.max(0, clock() - tonumber(at))
  if left < 1 then return 0 end
  -- One that was read later stays.
  local known = opened(redis.call('GET', keys[2]), era)
  if known and known > tonumber(at) then return 0 end
  local value = table.concat({ of_run, era, at, args[4] }, ' ')
  redis.call('SET', keys[2], value, 'PX', string.format('%.0f', left))
  return 1
end

-- KEYS: the same. ARGS: bucket
local function forget(keys, args)
  redis.call('HINCRBY', keys[1], args[1], 1)
  redis.call('UNLINK', keys[2])
  return 1
end

-- KEYS: xg
local function forget_all(keys)
  return redis.call('HINCRBY', keys[1], 'era', 1)
end

redis.register_function { function_name = 'vb1_cached', callback = found, flags = { 'no-writes' } }
redis.register_function('vb1_cache_keep', keep)
redis.register_function('vb1_cache_forget', forget)
redis.register_function('vb1_cache_forget_all', forget_all)
