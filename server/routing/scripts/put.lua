-- ARGV: key, version, body
if hear(ARGV[1], ARGV[2]) then
  redis.call('HSET', ENTRIES, ARGV[1], ARGV[3])
end
