-- Reads, and writes nothing. Answers, for each organisation, with the name of its
-- scope, used, stored limit (0 for none) and the age of the oldest.
local found = redis.call(
  'ZRANGEBYSCORE', global, live, '+inf', 'WITHSCORES')
local names, counts, oldest = {}, {}, {}
for i = 1, #found, 2 do
  local record = record_of(found[i])
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
  local limit = valid(redis.call('HGET', state, 'limit:' .. name)) or 0
  answer[#answer + 1] = {name, counts[name], limit, now - oldest[name]}
end
return #answer > 0 and cjson.encode(answer) or '[]'
