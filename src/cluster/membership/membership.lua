#!lua name=vestibule_members_1
-- Which nodes live, on the first shard.
--
--   {vb0}:node:NODE  hash  the lease: boot, n how often renewed; expires
--   {vb0}:nodes      hash  NODE/BOOT -> when last renewed (ms), a space, what the node said of itself then (JSON), of all that
--                          were seen and not swept since. No TTL: what a dead node pumped is still to be known

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function text(number) return string.format('%.0f', number) end

-- Takes or renews a lease. KEYS: the node's, nodes. ARGS: NODE, boot, info, time to live in ms
-- Answers '' or whose it is: another boot, and how often that one has renewed it.
local function lease(keys, args)
  local held = redis.call('HMGET', keys[1], 'boot', 'n')
  if held[1] and held[1] ~= args[2] then return { held[1], held[2] or '0' } end
  redis.call('HSET', keys[1], 'boot', args[2])
  local count = redis.call('HINCRBY', keys[1], 'n', 1)
  redis.call('PEXPIRE', keys[1], args[4])
  redis.call('HSET', keys[2], args[1] .. '/' .. args[2], text(clock()) .. ' ' .. args[3])
  return { '', text(count) }
end

-- Gives a lease back; what the node left behind is swept. It pumps nothing any more. KEYS: the node's, nodes. ARGS: NODE, boot
local function leave(keys, args)
  if redis.call('HGET', keys[1], 'boot') ~= args[2] then return 0 end
  local name = args[1] .. '/' .. args[2]
  local seen = redis.call('HGET', keys[2], name)
  if seen then redis.call('HSET', keys[2], name, string.match(seen, '^%d+')) end
  return redis.call('DEL', keys[1])
end

-- Everybody who was seen. KEYS: nodes. ARGS: what a node's key begins with (on the same slot)
-- Answers the time, then for each: NODE, boot, last renewed, what is left of the lease in ms (0: over), what it said of itself
local function members(keys, args)
  local found = {}
  local seen = redis.call('HGETALL', keys[1])
  for i = 1, #seen, 2 do
    local node, boot = string.match(seen[i], '^(.-)/(.*)$')
    if node then
      local key = args[1] .. node
      local renewed, info = string.match(seen[i + 1], '^(%d+) ?(.*)$')
      local left = 0
      if redis.call('HGET', key, 'boot') == boot then left = math.max(0, redis.call('PTTL', key)) end
      found[#found + 1] = { node, boot, renewed or '0', text(left), info or '' }
    end
  end
  return { text(clock()), found }
end

redis.register_function('vb1_lease', lease)
redis.register_function('vb1_leave', leave)
redis.register_function { function_name = 'vb1_members', callback = members, flags = { 'no-writes' } }
