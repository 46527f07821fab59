-- Reads, and writes nothing. KEYS: state, records, global. ARGV: prefix, window, keep.
-- Answers with name, used, stored limit and age of the oldest of each organisation.
local live = redis.call(
  'ZRANGEBYSCORE', global, '(' .. text(bound), '+inf', 'WITHSCORES')
local names, counts, oldest = {}, {}, {}
for i = 1, #live, 2 do
  local record = record_of(live[i])
  -- One that the source's own code has taken does not say whose it is.
  local name = record and record.scopes[1]
  if name then
    if not counts[name] then
      names[#names + 1] = name
      counts[name], oldest[name] = 0, now
    end
    counts[name] = counts[name] + 1
    oldest[name] = math.min(oldest[name], record.started)
  end
end
local answer = {}
for _, name in ipairs(names) do
  answer[#answer + 1] = name
  answer[#answer + 1] = counts[name]
  answer[#answer + 1] = valid(redis.call('HGET', state, 'limit:' .. name)) or ''
  answer[#answer + 1] = milliseconds(now - oldest[name])
end
return answer
