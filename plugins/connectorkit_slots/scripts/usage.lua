-- Reads, and writes nothing. KEYS: the common ones, the organisation's set. Answers
-- with used, stored limit (0 for none) and the age of the oldest.
local found = redis.call(
  'ZRANGEBYSCORE', KEYS[4], live, '+inf', 'WITHSCORES', 'LIMIT', 0, 10000)
local oldest = now
for i = 1, #found, 2 do
  local record = record_of(found[i])
  local started = record and record.started or keep and tonumber(found[i + 1]) or now
  oldest = math.min(oldest, started)
end
local limit = redis.call('HGET', state, 'limit:' .. scope_of(KEYS[4]))
return cjson.encode({used(KEYS[4]), valid(limit) or 0, now - oldest})
