-- Gives a slot in all scopes, or in none. KEYS: state, records, global, the sets of
-- the other scopes in the order in which they are looked at. ARGV: the common ones; as
-- JSON mode, lease and the limit of each scope (0 for none), the global one's last;
-- member, token, the known epoch.
local mode, lease, given = unpack(cjson.decode(ARGV[2]))
local member, token, known_epoch = ARGV[3], ARGV[4], ARGV[5]

local keys = {unpack(KEYS, 4)}
keys[#keys + 1] = global
local scopes, fields = {}, {'epoch', 'peak'}
for i, key in ipairs(keys) do
  scopes[i] = scope_of(key)
  fields[i + 2] = 'limit:' .. scopes[i]
end
local known = redis.call('HMGET', state, unpack(fields))
local epoch, peak = epoch_of(known[1]), tonumber(known[2] or nil) or 0
if known_epoch ~= '' and known_epoch ~= epoch then
  -- Those that have slots come first.
  return cjson.encode({'moved', epoch})
end
if now > peak + 0.1 then redis.call('HSET', state, 'peak', text(now)) end

local limits = {}
for i = 1, #keys do limits[i] = limit_of(known[i + 2], given[i]) or 0 end

local function granted(token, score, reaped, counts)
  return cjson.encode(
    {'granted', epoch, token, score + window - now, reaped, counts, limits})
end

local score = score_of(member)
if score then
  -- It has one already: its scopes stay, and nobody is counted twice.
  local record = record_of(member) or {started = now, scopes = scopes}
  local is_joined = mode == 'join' and record.token
  if not is_joined then
    if record.token then revoke(record) end
    record.token, record.lease, record.held = token, lease, mode == 'take'
  end
  if not keep then
    local later = now + lease - window
    score = is_joined and math.max(score, later) or later
  end
  put(member, score, record)
  local counts = {}
  for i, key in ipairs(keys) do counts[i] = used(key) end
  -- Who admits what runs already has no part in it: its holder's token stays secret.
  local mine = is_joined and record.held and token or record.token
  return granted(mine, score, 0, counts)
end

-- Redis's clock has gone back: what it gave before seems to last for longer.
local function shorten(key)
  local found = redis.call(
    'ZRANGEBYSCORE', key, live, '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #found, 2 do
    local record = record_of(found[i])
    local latest = now + (record and record.lease or lease) - window
    if tonumber(found[i + 1]) > latest then
      redis.call('ZADD', key, text(latest), found[i])
    end
  end
end

local reaped, counts = reap(global), {}
for i, key in ipairs(keys) do
  if key ~= global then reap(key) end
  local count = used(key)
  if limits[i] > 0 and count >= limits[i] then
    if now < peak then shorten(key) end
    local first = redis.call(
      'ZRANGEBYSCORE', key, live, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local left = tonumber(first[2]) + window - now
    return cjson.encode({'refused', epoch, i, count, limits[i], left, reaped})
  end
  counts[i] = count + 1
end

score = now + lease - window
put(member, score, {
  token = token, started = now, lease = lease, scopes = scopes, held = mode == 'take'})
return granted(token, score, reaped, counts)
