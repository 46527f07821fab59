-- What all verbs share. An execution that has a slot is a member of one sorted set for
-- each of its scopes, and has a record: its token, since when, its lease, its scopes.
-- A score at or below `bound` has lapsed. With leases it is when the slot lapses and
-- `window` is 0; with start times it is when it was given and `window` the cutoff.
local state, records, global = KEYS[1], KEYS[2], KEYS[3]
local prefix, window, keep = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local bound = now - window

local function text(seconds)
  return string.format('%.6f', seconds)
end

local function used(key)
  return redis.call('ZCOUNT', key, '(' .. text(bound), '+inf')
end

-- The score in the set that every slot is in; nil if the slot has lapsed.
local function score_of(member)
  local score = tonumber(redis.call('ZSCORE', global, member) or nil)
  return score and score > bound and score or nil
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

-- Bounded, so that no call pays for all that was left behind.
local function reap(key)
  local dead = redis.call(
    'ZRANGEBYSCORE', key, '-inf', text(bound), 'LIMIT', 0, 128)
  if #dead > 0 then
    redis.call('ZREM', key, unpack(dead))
    if key == global then redis.call('HDEL', records, unpack(dead)) end
  end
  return #dead
end

local function outlive(key, least, most)
  if redis.call('PTTL', key) < least * 1000 then
    redis.call('PEXPIRE', key, math.ceil(most * 1000))
  end
end

local function put(member, score, record, least, most)
  for _, scope in ipairs(record.scopes) do
    redis.call('ZADD', prefix .. scope, text(score), member)
    outlive(prefix .. scope, least, most)
  end
  redis.call('HSET', records, member, cjson.encode(record))
  outlive(records, least, most)
end

-- What was taken from its holder by hand shall not come back by its next renewal.
local function revoke(record)
  local key = prefix .. 'revoked'
  local seconds = 2 * record.lease + 60
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  redis.call('ZADD', key, text(now + seconds), record.token)
  outlive(key, seconds, seconds)
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

local function milliseconds(seconds)
  return math.max(0, math.floor(seconds * 1000))
end
