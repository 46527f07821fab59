-- Takes a slot back. ARGV: the common ones, member, token (empty: whoever has it), then
-- the scopes of one without a record. Answers with whether it was there and, if
-- anybody wants to know, name and use of each of its scopes.
local member, token = ARGV[2], ARGV[3]
local record = record_of(member)
if token ~= '' and not (record and record.token == token) then return '[false]' end
local was_live = token ~= '' or score_of(member) ~= nil
local scopes = record and record.scopes or {unpack(ARGV, 4)}
if token == '' and record then revoke(record) end
remove(member, scopes)
local answer = {was_live}
for i, scope in ipairs(is_told and scopes or {}) do
  answer[i + 1] = {scope, used(prefix .. scope)}
end
return cjson.encode(answer)
