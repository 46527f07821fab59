-- Takes all slots of an organisation back. KEYS: state, records, global, the
-- organisation's set. ARGV: prefix, window, keep, the name of the organisation's scope.
local count = used(KEYS[4])
for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  local record = record_of(member)
  if record then revoke(record) end
  remove(member, record and record.scopes or {ARGV[4], 'global'})
end
redis.call('DEL', KEYS[4])
return count
