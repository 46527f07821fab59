-- Reads, and writes nothing. KEYS: state, records, global, the organisation's set.
-- ARGV: prefix, window, keep, the name of the organisation's scope.
local live = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. text(bound), '+inf',
  'WITHSCORES', 'LIMIT', 0, 10000)
local oldest = now
for i = 1, #live, 2 do
  local record = record_of(live[i])
  local started = record and record.started or keep and tonumber(live[i + 1]) or now
  oldest = math.min(oldest, started)
end
local limit = redis.call('HGET', state, 'limit:' .. ARGV[4])
return {used(KEYS[4]), valid(limit) or '', milliseconds(now - oldest)}
