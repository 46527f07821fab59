-- Reads, and writes nothing. Answers, for each organisation, with the name of its
-- scope, used, stored limit (0 for none) and the age of the oldest.
local names, counts, oldest = {}, {}, {}
each_of(redis.call('ZRANGEBYSCORE', global, live, '+inf'), function(_, started, name)
  -- One that the source's own code has taken does not say whose it is.
  if not name then return end
  if not counts[name] then
    names[#names + 1] = name
    counts[name], oldest[name] = 0, now
  end
  counts[name] = counts[name] + 1
  oldest[name] = math.min(oldest[name], started)
end)
local answer = {}
for _, name in ipairs(names) do
  local limit = valid(redis.call('HGET', state, 'limit:' .. name)) or 0
  answer[#answer + 1] = {name, counts[name], limit, now - oldest[name]}
end
return #answer > 0 and cjson.encode(answer) or '[]'
