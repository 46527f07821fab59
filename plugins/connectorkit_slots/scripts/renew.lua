-- Renews what a process holds. KEYS: state, records, global. ARGV: prefix, window,
-- keep, then for each slot a JSON array: member, token, lease, seconds that it is to
-- last from now, seconds since it was taken, least and most seconds for the keys, and
-- a list of name and limit (0 for none) of each scope.
local epoch = epoch_of(redis.call('HGET', state, 'epoch'))

local function has_room(scopes)
  for _, scope in ipairs(scopes) do
    local stored = redis.call('HGET', state, 'limit:' .. scope[1])
    local limit = limit_of(stored, scope[2])
    if limit and used(prefix .. scope[1]) >= limit then return false end
  end
  return true
end

local function names(scopes)
  local found = {}
  for i, scope in ipairs(scopes) do found[i] = scope[1] end
  return found
end

-- Returns whether the slot is its holder's, and the score.
local function renew(member, token, lease, left, age, least, most, scopes)
  local score, record = score_of(member), record_of(member)
  if score then
    if record and record.token ~= token then return 0, 0 end
    record = record or {token = token, started = now - age, scopes = names(scopes)}
    if not keep then score = now + left - window end
  else
    -- Redis has forgotten it, or was away when it was given.
    if redis.call('ZSCORE', prefix .. 'revoked', token) then return 0, 0 end
    if not has_room(scopes) then return 0, 0 end
    record = {token = token, started = now - age, scopes = names(scopes)}
    score = now + left - window
  end
  record.lease = lease
  put(member, score, record, least, most)
  return 1, milliseconds(score + window - now)
end

local answer = {epoch}
for i = 4, #ARGV do
  local is_held, left = renew(unpack(cjson.decode(ARGV[i])))
  answer[#answer + 1] = is_held
  answer[#answer + 1] = left
end
return answer
