-- What all verbs share. An execution that has a slot is a member of one sorted set for
-- each of its scopes, and has a record: its token, since when, its lease, its scopes,
-- and whether it is held, and so renewed.
-- A score at or below `bound` has lapsed. With leases it is when the slot lapses and
-- `window` is 0; with start times it is when it was given and `window` the cutoff.
-- KEYS: state, records, global, then those of the verb. ARGV: the scheme's name,
-- window, seconds for which keys last, and 1 if anybody wants to know how many slots
-- are left in use; then those of the verb. Answers are JSON.
local state, records, global = KEYS[1], KEYS[2], KEYS[3]
local prefix = string.sub(state, 1, -6)
local scheme, window, key_seconds = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local is_told = ARGV[4] == '1'
local keep = scheme ~= 'leases'
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local bound = now - window

local function text(seconds)
  return string.format('%.6f', seconds)
end

local lapsed = text(bound)
local live = '(' .. lapsed

local function used(key)
  return redis.call('ZCOUNT', key, live, '+inf')
end

-- The score in the set that every slot is in; nil if the slot has lapsed.
local function score_of(member)
  local score = tonumber(redis.call('ZSCORE', global, member) or nil)
  return score and score > bound and score or nil
end

-- Since when each of many has its slot, and its first scope. To decode all of their
-- records would keep others waiting, so only names that JSON has to escape are.
local function each_of(members, tell)
  for i = 1, #members, 1000 do
    local last = math.min(i + 999, #members)
    local found = redis.call('HMGET', records, unpack(members, i, last))
    for j, record in ipairs(found) do
      local started = record and string.match(record, '"started":([^,}]+)')
      local scope = record and (string.match(record, '"scopes":%["([^"\\]+)"')
        or cjson.decode(record).scopes[1])
      tell(members[i + j - 1], tonumber(started or nil), scope)
    end
  end
end

local function record_of(member)
  local found = redis.call('HGET', records, member)
  return found and cjson.decode(found) or nil
end

-- A limit; nil for none, and for what is none.
local function valid(limit)
  local number = tonumber(limit or nil)
  return number and number >= 1 and number <= 1e9 and math.floor(number) or nil
end

-- What is stored counts before what the client says.
local function limit_of(stored, given)
  return valid(stored) or valid(given)
end

local function scope_of(key)
  return string.sub(key, #prefix + 1)
end

-- What the source's own code takes back leaves its record behind.
local function forget()
  if redis.call('HLEN', records) <= redis.call('ZCARD', global) then return end
  for _, member in ipairs(redis.call('HRANDFIELD', records, 32)) do
    if not redis.call('ZSCORE', global, member) then
      redis.call('HDEL', records, member)
    end
  end
end

-- Removes what has lapsed, but not so much that one call pays for all that was left
-- behind. Returns how many slots there are, and how many it removed.
local function reap(key)
  local dead = redis.call('ZRANGEBYSCORE', key, '-inf', lapsed, 'LIMIT', 0, 128)
  if #dead > 0 then
    redis.call('ZREM', key, unpack(dead))
    if key == global then redis.call('HDEL', records, unpack(dead)) end
  end
  if keep and key == global then forget() end
  return #dead < 128 and redis.call('ZCARD', key) or used(key), #dead
end

local function put(member, score, record)
  score = text(score)
  for _, scope in ipairs(record.scopes) do
    redis.call('ZADD', prefix .. scope, score, member)
    redis.call('EXPIRE', prefix .. scope, key_seconds)
  end
  redis.call('HSET', records, member, cjson.encode(record))
  redis.call('EXPIRE', records, key_seconds)
end

local function ban(token, seconds)
  local key = prefix .. 'revoked'
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  redis.call('ZADD', key, text(now + seconds), token)
  redis.call('EXPIRE', key, key_seconds)
end

-- What was taken from its holder shall not come back by that one's next renewal.
local function revoke(record)
  if record.held then ban(record.token, 2 * record.lease + 60) end
end

local function remove(member, scopes)
  for _, scope in ipairs(scopes) do
    redis.call('ZREM', prefix .. scope, member)
  end
  redis.call('HDEL', records, member)
end

-- A name for what Redis remembers: another one if it has been emptied.
local function epoch_of(found)
  if found then return found end
  redis.call('HSET', state, 'epoch', text(now))
  return text(now)
end