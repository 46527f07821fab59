-- Takes all slots of an organisation back. KEYS: the common ones, the organisation's
-- set. Answers with how many had not lapsed.
local count = used(KEYS[4])
for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  local record = record_of(member)
  if record then revoke(record) end
  remove(member, record and record.scopes or {scope_of(KEYS[4]), 'global'})
end
redis.call('DEL', KEYS[4])
return cjson.encode(count)
