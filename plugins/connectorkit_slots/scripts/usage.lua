-- Reads, and writes nothing. KEYS: the common ones, the organisation's set. Answers
-- with used, stored limit (0 for none) and the age of the oldest.
local members = redis.call('ZRANGEBYSCORE', KEYS[4], live, '+inf', 'LIMIT', 0, 10000)
local oldest = now
each_of(members, function(member, started)
  if not started and keep then started = tonumber(redis.call('ZSCORE', KEYS[4], member)) end
  oldest = math.min(oldest, started or now)
end)
local limit = redis.call('HGET', state, 'limit:' .. scope_of(KEYS[4]))
return cjson.encode({used(KEYS[4]), valid(limit) or 0, now - oldest})
