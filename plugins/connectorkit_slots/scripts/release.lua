-- Takes a slot back. KEYS: state, records, global. ARGV: prefix, window, keep, member,
-- token (empty: whoever has it), then the scopes of one without a record. Answers
-- with whether there was a slot, then name and use of each scope that it was in.
local member, token = ARGV[4], ARGV[5]
local record = record_of(member)
if token ~= '' and not (record and record.token == token) then return {0} end
local was_live = score_of(member) and 1 or 0
local scopes = {unpack(ARGV, 6)}
for _, scope in ipairs(record and record.scopes or {}) do
  scopes[#scopes + 1] = scope
end
if token == '' and record then revoke(record) end
remove(member, scopes)
local answer = {was_live}
for _, scope in ipairs(record and record.scopes or {}) do
  answer[#answer + 1] = scope
  answer[#answer + 1] = used(prefix .. scope)
end
return answer
