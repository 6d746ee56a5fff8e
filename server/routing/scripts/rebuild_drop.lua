-- ARGV: which index, mark, how many log lines are kept, then keys. Returns 0 when the index is lost. What is remembered of
-- dropped entries is pruned at the end of the rebuild: what it puts back is none of them.
if not same(ARGV[1]) then
  return 0
end
local mark = worth(ARGV[2])
for i = 4, #ARGV do
  local key = ARGV[i]
  local version, number = heard(key)
  if (not number or number <= mark) and redis.call('HDEL', ENTRIES, key) == 1 then
    redis.call('HSET', HEARD, key, text(version or 0) .. ' ' .. text(mark))
    redis.call('ZADD', DROPPED, text(mark), key)
    log(key, version or 0, '', ARGV[3])
  end
end
return 1
