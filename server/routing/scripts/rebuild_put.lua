-- ARGV: which index, mark, how many log lines are kept, then key, version, body of each entry. Returns 0 when the index
-- is lost.
if not same(ARGV[1]) then
  return 0
end
local mark = worth(ARGV[2])
for i = 4, #ARGV, 3 do
  local key, version, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local _, number = heard(key)
  if not number or number <= mark then
    note(key, version, mark)
    if redis.call('HGET', ENTRIES, key) ~= body then
      redis.call('HSET', ENTRIES, key, body)
      log(key, version, body, ARGV[3])
    end
  end
end
return 1
