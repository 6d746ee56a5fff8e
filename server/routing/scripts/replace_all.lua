-- ARGV: mark, how many dropped entries are kept, then key, version, body of each entry
local mark = tonumber(ARGV[1])
if mark > current() then
  mark = 0 -- from before a flush, or of words that a failover lost
end
redis.call('HSET', META, 'built', '1')

local given = {}
for i = 3, #ARGV, 3 do
  given[ARGV[i]] = true
end
for _, key in ipairs(redis.call('HKEYS', ENTRIES)) do
  if not given[key] then
    local version, number = heard(key)
    if not number or number <= mark then
      redis.call('HDEL', ENTRIES, key)
      redis.call('HSET', HEARD, key, (version or 0) .. ' ' .. text(mark))
      redis.call('ZADD', DROPPED, text(mark), key)
    end
  end
end
for i = 3, #ARGV, 3 do
  local _, number = heard(ARGV[i])
  if not number or number <= mark then
    note(ARGV[i], ARGV[i + 1], mark)
    redis.call('HSET', ENTRIES, ARGV[i], ARGV[i + 2])
  end
end
prune(ARGV[2])
