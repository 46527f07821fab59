-- Gives a slot in all scopes, or in none. KEYS: state, records, global, then the sets
-- of the scopes in the order in which they are looked at. ARGV: prefix, window, keep,
-- mode, member, token, lease, least and most seconds for the keys, the known epoch,
-- then name and limit of each scope.
local mode, member, token, lease = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local least, most, known_epoch = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]

local scopes, fields = {}, {'epoch', 'peak'}
for i = 11, #ARGV, 2 do
  scopes[#scopes + 1] = ARGV[i]
  fields[#fields + 1] = 'limit:' .. ARGV[i]
end
local known = redis.call('HMGET', state, unpack(fields))
local epoch, peak = epoch_of(known[1]), tonumber(known[2] or nil) or 0
if known_epoch ~= '' and known_epoch ~= epoch then
  -- Those that have slots come first.
  return {'moved', epoch}
end
if now > peak + 0.1 then redis.call('HSET', state, 'peak', text(now)) end

local function limit_at(i)
  return limit_of(known[i + 2], ARGV[10 + 2 * i])
end

local function granted(token, score, reaped)
  local answer = {
    'granted', epoch, token, milliseconds(score + window - now), reaped}
  for i = 1, #scopes do
    answer[#answer + 1] = used(KEYS[i + 3])
    answer[#answer + 1] = limit_at(i) or 0
  end
  return answer
end

local score = score_of(member)
if score then
  -- It has one already: its scopes stay, and nobody is counted twice.
  local record = record_of(member) or {started = now, scopes = scopes}
  local is_joined = mode == 'join' and record.token
  if not is_joined then record.token, record.lease = token, lease end
  if not keep then
    local later = now + lease - window
    score = is_joined and math.max(score, later) or later
  end
  put(member, score, record, least, most)
  return granted(record.token, score, 0)
end

-- Redis's clock has gone back: what it gave before seems to last for longer.
local function shorten(key)
  local live = redis.call('ZRANGEBYSCORE', key, '(' .. text(bound), '+inf',
    'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #live, 2 do
    local record = record_of(live[i])
    local latest = now + (record and record.lease or lease) - window
    if tonumber(live[i + 1]) > latest then
      redis.call('ZADD', key, text(latest), live[i])
    end
  end
end

local reaped = reap(global)
for i = 1, #scopes do
  local key, limit = KEYS[i + 3], limit_at(i)
  if key ~= global then reap(key) end
  if limit and used(key) >= limit then
    if now < peak then shorten(key) end
    local first = redis.call('ZRANGEBYSCORE', key, '(' .. text(bound), '+inf',
      'WITHSCORES', 'LIMIT', 0, 1)
    return {'refused', epoch, i, used(key), limit,
      math.max(1, milliseconds(tonumber(first[2]) + window - now)), reaped}
  end
end

score = now + lease - window
put(member, score, {token = token, started = now, lease = lease, scopes = scopes},
  least, most)
return granted(token, score, reaped)
