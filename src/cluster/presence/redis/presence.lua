#!lua name=vestibule_presence_1
-- Which nodes have a user, and what is still to be told of it, on the user's shard.
--
--   {tag}:p:USER        hash  NODE/BOOT -> 1, each node that has the user; .on whether the user is online, .at since
--                             when, .seen when last here, .c the last transition's number, .h the transition that is
--                             being told, .q the one after it. Expires a day after the user went.
--   {tag}:pn:NODE/BOOT  set   the users that a node has. No TTL: swept when the node is gone
--   {tag}:po            zset  USER -> since when somebody is to tell its .h, in ms. No TTL
--   {tag}:pm            hash  .run the server process that these keys were completed for, .begun when, .ready whether
--                             every node was heard, .f how many came or went; NODE/BOOT -> 1, each node that has
--                             written its users. No TTL
--   {tag}:pf            list  `1 USER` or `0 USER`, who came or went last, the newest first. No TTL
--
-- A transition is `NUMBER|1 or 0|TIME|LAST SEEN`. Numbers of a user rise for ever, also when the shard forgot
-- them: they are never below the time. Of a user one transition at a time is told, so that they are in order.

local DAY = 86400000

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

local function text(number) return string.format('%.0f', number) end

-- After a restart nothing is changed until every node has written its users again: what was lost with the last
-- writes would look as if users had come or gone.
local function is_ready(keys)
  local known = redis.call('HMGET', keys[1], '.run', '.ready')
  return known[1] == run() and known[2] == '1'
end

local FEED_MAX = 4096

-- Notes for those who count that a user came or went.
local function feed(keys, user, on)
  redis.call('HINCRBY', keys[1], '.f', 1)
  redis.call('LPUSH', keys[5], on .. ' ' .. user)
  redis.call('LTRIM', keys[5], 0, FEED_MAX - 1)
end

local function is_anywhere(key)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.find(field, '/', 1, true) then return true end
  end
  return false
end

-- Notes a transition, and answers it if the caller is to tell it.
local function transition(keys, user, on, at, seen)
  local key, now = keys[2], clock()
  local known = redis.call('HMGET', key, '.c', '.h', '.q')
  local number = math.max(tonumber(known[1] or '0') + 1, now)
  local entry = table.concat({ text(number), on, at, seen }, '|')
  redis.call('HSET', key, '.on', on, '.at', at, '.c', text(number))
  if seen ~= '' then redis.call('HSET', key, '.seen', seen) end
  feed(keys, user, on)
  if not known[2] then
    redis.call('HSET', key, '.h', entry)
    redis.call('ZADD', keys[4], text(now), user)
    return entry
  end
  -- What waits is the contrary of what is being told, and this is the contrary of what waits.
  if known[3] then redis.call('HDEL', key, '.q') else redis.call('HSET', key, '.q', entry) end
  return ''
end

-- What is being told, for a caller who may not have heard the answer when it said so first. Told twice it is the
-- same event.
local function unheard(key, on, again)
  if again ~= '1' then return '' end
  local known = redis.call('HMGET', key, '.h', '.q')
  if known[1] and not known[2] and string.match(known[1], '^%d+|(%d)') == on then return known[1] end
  return ''
end

-- A node has a user. KEYS: pm, p, pn, po, pf. ARGS: NODE/BOOT, USER, 1 if that was said before, time
-- Answers a transition to tell, or '', or WAIT when it is to be said again later.
local function came(keys, args)
  if not is_ready(keys) then return 'WAIT' end
  redis.call('HSET', keys[2], args[1], '1')
  redis.call('SADD', keys[3], args[2])
  redis.call('PERSIST', keys[2])
  if redis.call('HGET', keys[2], '.on') == '1' then return unheard(keys[2], '1', args[3]) end
  return transition(keys, args[2], '1', args[4], '')
end

-- A node has a user no more. KEYS: the same. ARGS: NODE/BOOT, USER, 1 if that was said before, time, last seen. Answers as `came`.
local function went(keys, args)
  if not is_ready(keys) then return 'WAIT' end
  redis.call('HDEL', keys[2], args[1])
  redis.call('SREM', keys[3], args[2])
  if redis.call('HGET', keys[2], '.on') ~= '1' then return unheard(keys[2], '0', args[3]) end
  if is_anywhere(keys[2]) then return '' end
  local entry = transition(keys, args[2], '0', args[4], args[5])
  redis.call('PEXPIRE', keys[2], DAY)
  return entry
end

-- A node had a user all the time: nothing is told of it unless the shard says otherwise. KEYS: the same.
-- ARGS: NODE/BOOT, USER, time
local function again(keys, args)
  redis.call('HSET', keys[2], args[1], '1')
  redis.call('SADD', keys[3], args[2])
  redis.call('PERSIST', keys[2])
  local on = redis.call('HGET', keys[2], '.on')
  if on == '0' then return transition(keys, args[2], '1', args[3], '') end
  if not on then redis.call('HSET', keys[2], '.on', '1', '.at', args[3], '.c', text(clock())) end
  return ''
end

-- A node has not had a user for long, and others know it; the shard forgot. KEYS: the same. ARGS: NODE/BOOT, USER
local function never(keys, args)
  redis.call('HDEL', keys[2], args[1])
  redis.call('SREM', keys[3], args[2])
  if redis.call('HGET', keys[2], '.on') == '1' and not is_anywhere(keys[2]) then
    redis.call('HSET', keys[2], '.on', '0')
    redis.call('PEXPIRE', keys[2], DAY)
    feed(keys, args[2], '0')
  end
  return ''
end

-- A transition was told. KEYS: p, po. ARGS: USER, number. Answers the next one to tell, or ''.
local function told(keys, args)
  local known = redis.call('HMGET', keys[1], '.h', '.q')
  if known[1] and string.match(known[1], '^%d+') ~= args[2] then return '' end
  if known[2] then
    redis.call('HSET', keys[1], '.h', known[2])
    redis.call('HDEL', keys[1], '.q')
    redis.call('ZADD', keys[2], text(clock()), args[1])
    return known[2]
  end
  redis.call('HDEL', keys[1], '.h')
  redis.call('ZREM', keys[2], args[1])
  return ''
end

-- Users of whom nobody has told for so long. KEYS: po. ARGS: ms, how many
local function overdue(keys, args)
  local before = text(clock() - tonumber(args[1]))
  return redis.call('ZRANGEBYSCORE', keys[1], '-inf', before, 'LIMIT', 0, args[2])
end

-- Takes over what nobody has told for so long. KEYS: p, po. ARGS: USER, ms. Answers a transition to tell, or ''.
local function claim(keys, args)
  local since = redis.call('ZSCORE', keys[2], args[1])
  if not since or tonumber(since) > clock() - tonumber(args[2]) then return '' end
  local head = redis.call('HGET', keys[1], '.h')
  if not head then
    redis.call('ZREM', keys[2], args[1])
    return ''
  end
  redis.call('ZADD', keys[2], text(clock()), args[1])
  return head
end

-- Begins anew if the server is another process. KEYS: pm. ARGS: NODE/BOOT, how long all are waited for in ms,
-- then NODE/BOOT of everybody who lives
-- Answers since when (its name), whether this node has written its users, whether changes are taken.
local function enter(keys, args)
  local known = redis.call('HMGET', keys[1], '.run', '.begun', '.ready')
  local begun, ready = known[2], known[3] == '1'
  if known[1] ~= run() then
    redis.call('DEL', keys[1])
    begun, ready = text(clock()), false
    redis.call('HSET', keys[1], '.run', run(), '.begun', begun)
  end
  local is_written = redis.call('HEXISTS', keys[1], args[1])
  if is_written == 1 and not ready then
    ready = true
    for i = 3, #args do
      if redis.call('HEXISTS', keys[1], args[i]) == 0 then ready = false end
    end
    if clock() - tonumber(begun) > tonumber(args[2]) then ready = true end
    if ready then redis.call('HSET', keys[1], '.ready', '1') end
  end
  return { begun, is_written, ready and 1 or 0 }
end

-- Who came and went since. KEYS: pm, pf. ARGS: what the last call answered first, or ''
-- Answers where the feed stands, then whether it goes back so far, then who came or went, the newest first.
local function since(keys, args)
  local known = redis.call('HMGET', keys[1], '.run', '.begun', '.f')
  local begun, count = (known[1] or '') .. ' ' .. (known[2] or ''), tonumber(known[3] or '0')
  local answer = { begun .. ' ' .. text(count), 0 }
  local from, after = string.match(args[1], '^(.*) (%d+)$')
  if from ~= begun then return answer end
  local missed = count - tonumber(after)
  if missed < 0 or missed > redis.call('LLEN', keys[2]) then return answer end
  answer[2] = 1
  if missed == 0 then return answer end
  for _, entry in ipairs(redis.call('LRANGE', keys[2], 0, missed - 1)) do answer[#answer + 1] = entry end
  return answer
end

-- This node has written its users since then. KEYS: pm. ARGS: NODE/BOOT, since when
local function written(keys, args)
  local known = redis.call('HMGET', keys[1], '.run', '.begun')
  if known[1] ~= run() or known[2] ~= args[2] then return 0 end
  redis.call('HSET', keys[1], args[1], '1')
  return 1
end

redis.register_function('vb1_came', came)
redis.register_function('vb1_went', went)
redis.register_function('vb1_again', again)
redis.register_function('vb1_never', never)
redis.register_function('vb1_told', told)
redis.register_function { function_name = 'vb1_overdue', callback = overdue, flags = { 'no-writes' } }
redis.register_function('vb1_claim', claim)
redis.register_function('vb1_presence_enter', enter)
redis.register_function('vb1_presence_written', written)
redis.register_function { function_name = 'vb1_presence_since', callback = since, flags = { 'no-writes' } }
