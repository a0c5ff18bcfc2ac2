
-- What a room got after a place of this shard: the newest first, back to that place. What was written on another shard
-- (h) is not compared. Costs in proportion to what is answered.
-- KEYS: shard, meta, stream. ARGS: the place's epoch and shard_seq, before which entry or '', limit, 1 if the room may be
-- elsewhere
-- Answers the shard's epoch, what is before the last entry (MARK, MORE, BEGINNING, GONE), of what is gone the latest
-- EPOCH-SHARD_SEQ or '', and the entries.
local function since(keys, args)
  local other = misplaced(keys[2], false, 0, args[5])
  if other then return other end
  local epoch = redis.call('HGET', keys[1], 'e') or '0'
  local meta = redis.call('HMGET', keys[2], 'e', 'n', 'l', 'te', 'tn', 'tq', 'th')
  if not meta[2] then return { epoch, 'BEGINNING', '', {} } end
  local mark_epoch, mark_seq, limit = tonumber(args[1]), tonumber(args[2]), tonumber(args[4])
  local function is_seen(e, q)
    e = tonumber(e)
    if e ~= mark_epoch then return e < mark_epoch end
    return tonumber(q) <= mark_seq
  end
  -- Most rooms got nothing: their top says so.
  local top_seq = false
  if args[3] == '' and meta[3] then
    local place, q, shard = string.match(meta[3], '^(%S+) (%S+) (.*)$')
    if place == meta[1] .. '-' .. meta[2] and shard == keys[1] then
      if is_seen(meta[1], q) then return { epoch, 'MARK', '', {} } end
      top_seq = q
    end
  end
  local entries, size = {}, 8
  local cursor = args[3] == '' and '+' or '(' .. args[3]
  local oldest = tonumber(meta[2]) + 1
  if args[3] ~= '' then
    local _, seq = split(args[3])
    oldest = tonumber(seq)
  end
  local is_whole = true
  while is_whole do
    local page = redis.call('XREVRANGE', keys[3], cursor, '-', 'COUNT', size)
    for _, entry in ipairs(page) do
      local e, seq = split(entry[1])
      -- What is not settled outlives what was lost around it.
      is_whole = tonumber(seq) == oldest - 1
      if not is_whole then break end
      if not field(entry, 'h') and is_seen(e, field(entry, 'q')) then return { epoch, 'MARK', '', entries } end
      if #entries == limit then return { epoch, 'MORE', '', entries } end
      entries[#entries + 1] = entry
      oldest = tonumber(seq)
      cursor = '(' .. entry[1]
    end
    if #page < size then break end
    size = math.min(size * 2, 128)
  end
  if oldest <= 1 then return { epoch, 'BEGINNING', '', entries } end
  if meta[5] and tonumber(meta[5]) == oldest - 1 and meta[6] ~= '' and (meta[7] or '') == '' then
    return { epoch, 'GONE', meta[4] .. '-' .. meta[6], entries }
  end
  -- Everything expired with the stream.
  if #entries == 0 and top_seq then return { epoch, 'GONE', meta[1] .. '-' .. top_seq, entries } end
  return { epoch, 'GONE', '', entries }
end

redis.register_function { function_name = 'vb1_since', callback = since, flags = { 'no-writes' } }
