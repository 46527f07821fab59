-- Renews what a process holds. ARGV: the common ones, then for each slot a JSON array:
-- member, token, lease, seconds that it is to last from now, seconds since it was
-- taken, and name and limit (0 for none) of each scope.
-- Answers with how many seconds each lasts: 0 for one that is its holder's no more.
local epoch = epoch_of(redis.call('HGET', state, 'epoch'))

local function has_room(scopes)
  for _, scope in ipairs(scopes) do
    local stored = redis.call('HGET', state, 'limit:' .. scope[1])
    local limit = limit_of(stored, scope[2])
    if limit and used(prefix .. scope[1]) >= limit then return false end
  end
  return true
end

local function new_record(token, age, scopes)
  local names = {}
  for i, scope in ipairs(scopes) do names[i] = scope[1] end
  local more = #scopes > 2 and {unpack(scopes, 2, #scopes - 1)} or nil
  return {token = token, started = now - age, scopes = names, more = more}
end

local function renew(member, token, lease, left, age, scopes)
  local score, record = score_of(member), record_of(member)
  if score then
    if record and record.token ~= token then return 0 end
    record = record or new_record(token, age, scopes)
    if not keep then score = now + left - window end
  else
    -- Redis has forgotten it, or was away when it was given.
    if redis.call('ZSCORE', prefix .. 'revoked', token) then return 0 end
    if not has_room(scopes) then return 0 end
    record = new_record(token, age, scopes)
    score = now + left - window
  end
  record.lease, record.held = lease, true
  put(member, score, record)
  return score + window - now
end

local answer = {epoch}
for i = 5, #ARGV do
  answer[i - 3] = renew(unpack(cjson.decode(ARGV[i])))
end
return cjson.encode(answer)
