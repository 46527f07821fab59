-- Takes a slot back. ARGV: the common ones, member, token (empty: whoever has it),
-- seconds since it was wanted, then the scopes of one without a record, the
-- organisation's first. Answers with whether it was there and, if
-- anybody wants to know, name and use of each of its scopes.
local member, token, age, first = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8]
local record = record_of(member)
if token ~= '' and not (record and record.token == token) then
  -- What asks for it may come yet, where its caller has not waited for the answer.
  ban(token, 600)
  return '[false]'
end
-- The source's members do not say whose they are.
local owner = record and record.scopes[1] or
  redis.call('ZSCORE', prefix .. first, member) and first
if owner ~= first then return '[false]' end
-- What it has got since is not meant.
if token == '' and age > 0 and record and record.started > now - age then
  return '[false]'
end
local was_live = token ~= '' or score_of(member) ~= nil
local scopes = record and record.scopes or {unpack(ARGV, 8)}
if token == '' and record then revoke(record) end
remove(member, scopes)
local answer = {was_live}
for i, scope in ipairs(is_told and scopes or {}) do
  answer[i + 1] = {scope, used(prefix .. scope)}
end
return cjson.encode(answer)
