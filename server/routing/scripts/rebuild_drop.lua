-- ARGV: which index, mark, how many dropped entries are kept, how many log lines, then keys. Returns 0 when it is lost.
if not same(ARGV[1]) then
  return 0
end
local mark = worth(ARGV[2])
for i = 5, #ARGV do
  local key = ARGV[i]
  local version, number = heard(key)
  if (not number or number <= mark) and redis.call('HDEL', ENTRIES, key) == 1 then
    redis.call('HSET', HEARD, key, text(version or 0) .. ' ' .. text(mark))
    redis.call('ZADD', DROPPED, text(mark), key)
    log(key, version or 0, '', ARGV[4])
  end
end
prune(ARGV[3])
return 1
