-- Gives a slot in all scopes, or in none. KEYS: state, records, global, the sets of
-- the other scopes in the order in which they are looked at. ARGV: the common ones,
-- mode, lease, member, token, the known epoch, and the limit of each scope (0 for
-- none), the global one's last.
local mode, lease = ARGV[5], tonumber(ARGV[6])
local member, token, known_epoch = ARGV[7], ARGV[8], ARGV[9]
local given = {unpack(ARGV, 10)}

local keys = {unpack(KEYS, 4)}
keys[#keys + 1] = global
local scopes, fields = {}, {'epoch', 'peak', 'scheme'}
for i, key in ipairs(keys) do
  scopes[i] = scope_of(key)
  fields[i + 3] = 'limit:' .. scopes[i]
end
local known = redis.call('HMGET', state, unpack(fields))
local epoch, peak = epoch_of(known[1]), tonumber(known[2] or nil) or 0
if known_epoch ~= '' and known_epoch ~= epoch then
  -- Those that have slots come first.
  return cjson.encode({'moved', epoch})
end
if known[3] ~= scheme then
  -- Start times of another cutoff are start times. But leases would be taken for them.
  local is_like = not known[3] or keep and string.match(known[3], '^started')
  if not is_like and redis.call('ZCARD', global) > 0 then
    return cjson.encode({'mixed', epoch, known[3]})
  end
  redis.call('HSET', state, 'scheme', scheme)
end
if now > peak + 0.1 then redis.call('HSET', state, 'peak', text(now)) end

-- Redis's clock has gone back: what was given before would last for longer.
if now < peak - 1 then
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', global, live, '+inf')) do
    local record = record_of(each) or {lease = lease, scopes = {scopes[1], 'global'}}
    local latest = text(now + record.lease - window)
    for _, scope in ipairs(record.scopes) do
      redis.call('ZADD', prefix .. scope, 'XX', 'LT', latest, each)
    end
  end
  redis.call('HSET', state, 'peak', text(now))
end

local limits = {}
for i = 1, #keys do limits[i] = limit_of(known[i + 3], given[i]) or 0 end

local function granted(score, reaped, counts, more)
  return cjson.encode(
    {'granted', epoch, score + window - now, reaped, counts, limits, more})
end

-- It was given up before it was asked for: nobody hears this.
if redis.call('ZSCORE', prefix .. 'revoked', token) then
  return cjson.encode({'refused', epoch, 1, 0, 0, 0, 0})
end

local score = score_of(member)
if score then
  -- It has one already: its scopes stay, and nobody is counted twice.
  local record = record_of(member)
  -- The source's members do not say whose they are.
  local is_known = record or not keep or redis.call('ZSCORE', keys[1], member)
  if not is_known or record and record.scopes[1] ~= scopes[1] then
    return cjson.encode({'foreign', epoch})
  end
  record = record or {started = now, scopes = scopes}
  -- Who admits what runs already has no part in it. Else it is the last one's, so that
  -- what an earlier one gives up is not taken from this one.
  if mode == 'take' or not record.held then
    if record.token then revoke(record) end
    record.token, record.held = token, mode == 'take'
    record.lease = mode == 'take' and lease or math.max(lease, record.lease or 0)
    local later = now + lease - window
    if not keep then score = mode == 'take' and later or math.max(score, later) end
    put(member, score, record)
  end
  local counts = {}
  for i, key in ipairs(keys) do counts[i] = used(key) end
  return granted(score, 0, counts, record.more)
end

local everywhere, reaped = reap(global)
local counts = {}
for i, key in ipairs(keys) do
  local count = key == global and everywhere or reap(key)
  if limits[i] > 0 and count >= limits[i] then
    local first = redis.call(
      'ZRANGEBYSCORE', key, live, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local left = tonumber(first[2]) + window - now
    return cjson.encode({'refused', epoch, i, count, limits[i], left, reaped})
  end
  counts[i] = count + 1
end

-- A holder that does not know of further scopes shall renew in them all the same.
local more
for i = 2, #keys - 1 do
  more = more or {}
  more[#more + 1] = {scopes[i], tonumber(given[i])}
end
score = now + lease - window
put(member, score, {
  token = token, started = now, lease = lease, scopes = scopes, more = more,
  held = mode == 'take'})
return granted(score, reaped, counts)
