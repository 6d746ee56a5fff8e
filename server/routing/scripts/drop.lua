-- ARGV: key, version, how many dropped entries are kept
local number = hear(ARGV[1], ARGV[2])
if number then
  redis.call('HDEL', ENTRIES, ARGV[1])
  redis.call('ZADD', DROPPED, text(number), ARGV[1])
  prune(ARGV[3])
end
