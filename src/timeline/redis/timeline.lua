#!lua name=vestibule_timeline_1
-- The order of rooms, on one shard (DESIGN: the script is the point that orders a room).
--
-- Keys of a shard share one hash tag, so that in a Redis Cluster they share a slot:
--   {tag}:s           hash    the shard: e epoch, q last shard_seq, run its server's run id, name, end:E last shard_seq of
--                             epoch E, tl:P highest offset in partition P of topic `timeline` that was settled; fence the
--                             newest change of the ring: callers who place rooms by an older one are refused
--   {tag}:raise       string  who raises the epoch now
--   {tag}:m:ROOM      hash    the room: e, n its top; mv ring version since when it is elsewhere; here that it came here
--                             though it held nothing; p:SOURCE last offset applied; te, tn, tq, th, the latest that was
--                             trimmed and the shard on which it was written; x newest record time; l the top's place, its
--                             shard_seq and its shard (only if they are those of the top). No TTL.
--   {tag}:t:ROOM      stream  entries, id EPOCH-SEQ, fields q shard_seq, s source, o offset, i id, a time, p payload, and
--                             h the shard on which it was written, if it came here from there
--   {tag}:u:ROOM      hash    SOURCE:OFFSET -> entry id of what is not settled; such entries are never trimmed
--   {tag}:d:ROOM:G    hash    event id -> EPOCH-SEQ@TIME, for one dedup window of record times; expires
--
-- A function either does all of it or nothing, and may be repeated.

-- Field of an entry by its name.
local function field(entry, name)
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return false
end

local function split(id)
  local at = string.find(id, '-', 1, true)
  return string.sub(id, 1, at - 1), string.sub(id, at + 1)
end

-- Drops the oldest settled entries over the limits, a few at a time.
local function trim(keys, limits, newest)
  local length = redis.call('XLEN', keys.stream)
  for _ = 1, 4 do
    if length <= limits.keep_min and length <= limits.entries_max then return end
    local first = redis.call('XRANGE', keys.stream, '-', '+', 'COUNT', 1)[1]
    if not first then return end
    local is_old = newest - tonumber(field(first, 'a')) > limits.ttl
    if length <= limits.entries_max and not (is_old and length > limits.keep_min) then return end
    if redis.call('HEXISTS', keys.open, field(first, 's') .. ':' .. field(first, 'o')) == 1 then return end
    local epoch, seq = split(first[1])
    -- A raise may have left the mark further on: see `restore`.
    if tonumber(seq) > tonumber(redis.call('HGET', keys.meta, 'tn') or '0') then
      redis.call('HSET', keys.meta, 'te', epoch, 'tn', seq, 'tq', field(first, 'q'), 'th', field(first, 'h') or '')
    end
    redis.call('XDEL', keys.stream, first[1])
    length = length - 1
  end
end

-- Is this id known within the window? Judged by the two records' own times.
local function original(keys, id, at, window)
  for i = 5, #keys do
    local known = redis.call('HGET', keys[i], id)
    if known then
      local place, time = string.match(known, '^(.-)@(.*)$')
      if math.abs(at - tonumber(time)) <= window then return place end
    end
  end
  return false
end

-- Whether the caller places rooms by an older ring (MOVED), or the room is still where it was before (ABSENT).
local function misplaced(meta, fence, known, may_be_elsewhere)
  if fence and tonumber(known) < tonumber(fence) then return { 'MOVED', fence } end
  if may_be_elsewhere ~= '1' then return false end
  local room = redis.call('HMGET', meta, 'n', 'here', 'mv')
  if room[3] or not (room[1] or room[2]) then return { 'ABSENT' } end
  return false
end

-- KEYS: shard, meta, stream, open, dedup of this window, of the one before, of the one after
-- ARGS: epoch, ring version, source, offset, prev or '', event id, record time, payload, channel, room,
--       entries_max, keep_min, ttl, window, how to publish: PUBLISH, or SPUBLISH in a Redis Cluster; 1 if the room may
--       be elsewhere
local function apply(keys, args)
  local epoch, source, offset, prev, id = args[1], args[3], args[4], args[5], args[6]
  local at, payload = tonumber(args[7]), args[8]
  local meta, stream, open = keys[2], keys[3], keys[4]
  local room = redis.call('HMGET', meta, 'mv', 'n', 'p:' .. source, 'x')
  if room[1] and tonumber(args[2]) < tonumber(room[1]) then return { 'MOVED', room[1] } end
  local shard = redis.call('HMGET', keys[1], 'e', 'fence')
  local other = misplaced(meta, shard[2], args[2], args[16])
  if other then return other end
  local now = shard[1]
  if now ~= epoch then return { 'STALE', now or '0' } end
  local last = room[3]
  if last and tonumber(offset) <= tonumber(last) then
    local place = redis.call('HGET', open, source .. ':' .. offset)
    if not place then return { 'DUP', '1' } end
    local entry = redis.call('XRANGE', stream, place, place)[1]
    if not entry then return { 'DUP', '1' } end
    return { 'DUP', '0', entry }
  end
  if prev ~= '' and (not last or tonumber(last) < tonumber(prev)) then return { 'GAP', last or '' } end
  local known = original(keys, id, at, tonumber(args[14]))
  if known then
    redis.call('HSET', meta, 'p:' .. source, offset)
    return { 'DUPID', known }
  end
  local seq = string.format('%.0f', tonumber(room[2] or '0') + 1)
  local shard_seq = redis.call('HINCRBY', keys[1], 'q', 1)
  local place = epoch .. '-' .. seq
  local newest = math.max(at, tonumber(room[4] or args[7]))
  redis.call('XADD', stream, place, 'q', shard_seq, 's', source, 'o', offset, 'i', id, 'a', args[7], 'p', payload)
  redis.call('HSET', meta, 'e', epoch, 'n', seq, 'p:' .. source, offset, 'x', string.format('%.0f', newest), 'l',
    place .. ' ' .. shard_seq .. ' ' .. keys[1])
  redis.call('HSET', open, source .. ':' .. offset, place)
  redis.call('PERSIST', stream)
  redis.call('HSET', keys[5], id, place .. '@' .. args[7])
  redis.call('PEXPIRE', keys[5], 3 * tonumber(args[14]))
  local limits = { entries_max = tonumber(args[11]), keep_min = tonumber(args[12]), ttl = tonumber(args[13]) }
  trim({ meta = meta, stream = stream, open = open }, limits, newest)
  redis.call(args[15], args[9], table.concat({ 'E', place, shard_seq, args[10], id, payload }, '\n'))
  return { 'OK', place, tostring(shard_seq) }
end

-- KEYS: shard, meta, stream, open. ARGS: the epoch in which the entry was seen here, source, offset, entries_max,
-- keep_min, ttl, the partition and offset of its record in topic `timeline`, or '', ring version, 1 if the room may be
-- elsewhere, the entry's place if it was written on another shard, or ''
local function settled(keys, args)
  local other = misplaced(keys[2], redis.call('HGET', keys[1], 'fence'), args[9], args[10])
  if other then return other end
  -- In another epoch the entry may be lost: its record must not count as done, unless the shard still has it. To
  -- apply it again would give the same answer, and would not bring its epoch back.
  -- Of what was written on another shard the epoch of this one says nothing.
  local now, foreign = redis.call('HGET', keys[1], 'e'), args[11] or ''
  if now ~= args[1] or foreign ~= '' then
    local last = redis.call('HGET', keys[2], 'p:' .. args[2])
    if not last or tonumber(args[3]) > tonumber(last) then return { 'STALE', now or '0' } end
    local place = redis.call('HGET', keys[4], args[2] .. ':' .. args[3])
    local is_it = not place or place == foreign or foreign == '' and split(place) == args[1]
    if not is_it then return { 'STALE', now or '0' } end
  end
  if args[7] ~= '' then
    local known = tonumber(redis.call('HGET', keys[1], 'tl:' .. args[7]) or '-1')
    if tonumber(args[8]) > known then redis.call('HSET', keys[1], 'tl:' .. args[7], args[8]) end
  end
  if redis.call('HDEL', keys[4], args[2] .. ':' .. args[3]) == 0 then return { 'OK' } end
  local newest = tonumber(redis.call('HGET', keys[2], 'x') or '0')
  local limits = { entries_max = tonumber(args[4]), keep_min = tonumber(args[5]), ttl = tonumber(args[6]) }
  trim({ meta = keys[2], stream = keys[3], open = keys[4] }, limits, newest)
  -- A room that is quiet for that long keeps nothing; what is not settled does not expire.
  if redis.call('HLEN', keys[4]) == 0 then redis.call('PEXPIRE', keys[3], args[6]) end
  return { 'OK' }
end

-- What was written on another shard was there before anything that was written here.
-- KEYS: shard, meta, stream. ARGS: after's epoch and seq, limit, up_to's epoch and shard_seq, 1 if the room may be
-- elsewhere. Answers the shard's epoch, the room's top, the trim mark, the first entry's id, whether `after` is kept, the top not
-- after up_to, and the entries.
local function range(keys, args)
  local stream = keys[3]
  local other = misplaced(keys[2], false, 0, args[6])
  if other then return other end
  local meta = redis.call('HMGET', keys[2], 'e', 'n', 'te', 'tn', 'tq', 'th')
  local epoch = redis.call('HGET', keys[1], 'e') or '0'
  local up_epoch, up_seq = tonumber(args[4]), tonumber(args[5])
  local function is_beyond(entry)
    if field(entry, 'h') then return false end
    local e = tonumber((split(entry[1])))
    if e ~= up_epoch then return e > up_epoch end
    return tonumber(field(entry, 'q')) > up_seq
  end
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local last_id = false
  local cursor = '+'
  while first and not last_id do
    local page = redis.call('XREVRANGE', stream, cursor, '-', 'COUNT', 16)
    if #page == 0 then break end
    for _, entry in ipairs(page) do
      if not is_beyond(entry) then
        last_id = entry[1]
        break
      end
      cursor = '(' .. entry[1]
    end
  end
  local after = args[1] .. '-' .. args[2]
  local is_kept, from = 0, '(' .. after
  if first and args[1] == '0' then
    -- By seq alone: seq rises by one from entry to entry, through all epochs.
    local _, lowest = split(first[1])
    local skip = tonumber(args[2]) - tonumber(lowest) + 1
    from = '-'
    if skip > 0 then
      local page = redis.call('XRANGE', stream, '-', '+', 'COUNT', skip)
      from = '(' .. page[#page][1]
    end
  elseif first then
    is_kept = #redis.call('XRANGE', stream, after, after)
  end
  local entries, more = {}, 0
  if first then
    for _, entry in ipairs(redis.call('XRANGE', stream, from, '+', 'COUNT', tonumber(args[3]) + 1)) do
      if is_beyond(entry) then break end
      if #entries == tonumber(args[3]) then
        more = 1
        break
      end
      entries[#entries + 1] = entry
    end
  end
  return { epoch, meta[1] or '', meta[2] or '', meta[3] or '', meta[4] or '', meta[5] or '',
    first and first[1] or '', is_kept, last_id or '', more, meta[6] or '', entries }
end

-- False when the shard knows a newer ring than the caller.
local function raise_fence(shard, fence)
  local known = tonumber(redis.call('HGET', shard, 'fence') or '0')
  if tonumber(fence) > known then redis.call('HSET', shard, 'fence', fence) end
  return tonumber(fence) >= known
end

-- Where the shard stands, if its server is the process that it knows.
-- KEYS: shard. ARGS: run id, the shard's name, the highest epoch that was heard of
local function look(keys, args)
  local shard = redis.call('HMGET', keys[1], 'e', 'q', 'run', 'name')
  if shard[4] and shard[4] ~= args[2] then return { 'OTHER', shard[4] } end
  if shard[3] == args[1] and tonumber(shard[1]) >= tonumber(args[3]) then
    return { 'CURRENT', shard[1], shard[2] or '0' }
  end
  return { 'RAISE' }
end

-- The server is another process than the shard knows: it may have lost what was written last. One caller at a time
-- puts that back and then begins the next epoch; until then nothing is applied.
-- KEYS: shard, raise. ARGS: run id, name, the highest epoch that was heard of, token, ms
local function raise_begin(keys, args)
  local found = look({ keys[1] }, args)
  if found[1] ~= 'RAISE' then return found end
  local holder = redis.call('GET', keys[2])
  if holder and holder ~= args[4] then return { 'BUSY' } end
  redis.call('SET', keys[2], args[4], 'PX', args[5])
  local answer = { 'YOURS', '0', '0' }
  local fields = redis.call('HGETALL', keys[1])
  for i = 1, #fields, 2 do
    if fields[i] == 'e' then answer[2] = fields[i + 1] end
    if fields[i] == 'q' then answer[3] = fields[i + 1] end
    local partition = string.match(fields[i], '^tl:(%d+)$')
    if partition then
      answer[#answer + 1] = partition
      answer[#answer + 1] = fields[i + 1]
    end
  end
  -- Who applied in the old epoch on a connection that outlived it must not go on.
  redis.call('HDEL', keys[1], 'run')
  return answer
end

-- Nothing before a place counts as kept any more. What is not settled stays all the same: its record is still to be
-- produced.
local function drop_settled(stream, open)
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
    if redis.call('HEXISTS', open, field(entry, 's') .. ':' .. field(entry, 'o')) == 0 then
      redis.call('XDEL', stream, entry[1])
    end
  end
end

-- Puts a settled entry back that the server does not have. In order of the room's places.
-- KEYS: raise, meta, stream, open, dedup of its window. ARGS: token, ms, epoch, seq, shard_seq, source, offset, id, record time,
-- payload, entries_max, window, the shard on which it was written, or '' for this one
local function restore(keys, args)
  if redis.call('GET', keys[1]) ~= args[1] then return { 'LOST' } end
  redis.call('PEXPIRE', keys[1], args[2])
  local meta, stream, source = keys[2], keys[3], args[6]
  local room = redis.call('HMGET', meta, 'n', 'p:' .. source, 'x')
  if tonumber(room[2] or '-1') < tonumber(args[7]) then redis.call('HSET', meta, 'p:' .. source, args[7]) end
  local place = args[3] .. '-' .. args[4]
  redis.call('HSET', keys[5], args[8], place .. '@' .. args[9])
  redis.call('PEXPIRE', keys[5], 3 * tonumber(args[12]))
  local top, seq = tonumber(room[1] or '0'), tonumber(args[4])
  if seq <= top then return { 'OK' } end
  if seq > top + 1 then
    -- What is between is not here, so nothing before this one counts as kept.
    drop_settled(stream, keys[4])
    redis.call('HSET', meta, 'te', args[3], 'tn', string.format('%.0f', seq - 1), 'tq',
      string.format('%.0f', math.max(tonumber(args[5]) - 1, 0)), 'th', args[13])
  end
  local newest = math.max(tonumber(args[9]), tonumber(room[3] or args[9]))
  local entry = { 'q', args[5], 's', source, 'o', args[7], 'i', args[8], 'a', args[9], 'p', args[10] }
  if args[13] ~= '' then
    entry[13], entry[14] = 'h', args[13]
  end
  redis.call('XADD', stream, place, unpack(entry))
  redis.call('HSET', meta, 'e', args[3], 'n', args[4], 'x', string.format('%.0f', newest))
  local limits = { entries_max = tonumber(args[11]), keep_min = tonumber(args[11]), ttl = 0 }
  trim({ meta = meta, stream = stream, open = keys[4] }, limits, newest)
  return { 'OK' }
end

-- A room goes on above this place, though what is before it is not here. KEYS: raise, meta, stream, open.
-- ARGS: token, ms, epoch, seq
local function restore_top(keys, args)
  if redis.call('GET', keys[1]) ~= args[1] then return { 'LOST' } end
  redis.call('PEXPIRE', keys[1], args[2])
  local top = tonumber(redis.call('HGET', keys[2], 'n') or '0')
  if tonumber(args[4]) > top then
    drop_settled(keys[3], keys[4])
    redis.call('HSET', keys[2], 'e', args[3], 'n', args[4], 'te', args[3], 'tn', args[4], 'tq', '', 'th', '')
  end
  return { 'OK' }
end

-- Begins the next epoch. KEYS: shard, raise. ARGS: token, run id, name, the highest epoch that was heard of, ring version,
-- then pairs of an epoch and the last shard_seq that was put back of it
local function raise_end(keys, args)
  if redis.call('GET', keys[2]) ~= args[1] then return { 'LOST' } end
  local shard = redis.call('HMGET', keys[1], 'e', 'q')
  local highest = math.max(tonumber(shard[1] or '0'), tonumber(args[4]))
  if shard[1] then redis.call('HSET', keys[1], 'end:' .. shard[1], shard[2] or '0') end
  for i = 6, #args, 2 do
    local known = tonumber(redis.call('HGET', keys[1], 'end:' .. args[i]) or '0')
    if tonumber(args[i + 1]) > known then redis.call('HSET', keys[1], 'end:' .. args[i], args[i + 1]) end
    highest = math.max(highest, tonumber(args[i]))
  end
  local epoch = string.format('%.0f', highest + 1)
  redis.call('HSET', keys[1], 'e', epoch, 'q', '0', 'run', args[2], 'name', args[3])
  raise_fence(keys[1], args[5])
  redis.call('DEL', keys[2])
  return { 'OK', epoch }
end

-- Nothing sequences the room here any more for callers with an older ring. KEYS: meta. ARGS: ring version
local function tombstone(keys, args)
  redis.call('HSET', keys[1], 'mv', args[1])
  return 1
end

redis.register_function('vb1_apply', apply)
redis.register_function('vb1_settled', settled)
redis.register_function { function_name = 'vb1_range', callback = range, flags = { 'no-writes' } }
redis.register_function { function_name = 'vb1_stand', callback = look, flags = { 'no-writes' } }
redis.register_function('vb1_raise_begin', raise_begin)
redis.register_function('vb1_restore', restore)
redis.register_function('vb1_restore_top', restore_top)
redis.register_function('vb1_raise_end', raise_end)
redis.register_function('vb1_tombstone', tombstone)
