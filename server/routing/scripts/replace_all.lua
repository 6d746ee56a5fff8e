-- ARGV: mark, how many dropped entries are kept, how many log lines, then key, version, body of each entry
local mark = tonumber(ARGV[1])
if mark > current() then
  mark = 0 -- from before a flush, or of words that a failover lost
end
redis.call('HSET', META, 'built', '1')

local given, gone = {}, {}
for i = 4, #ARGV, 3 do
  given[ARGV[i]] = true
end
for _, key in ipairs(redis.call('HKEYS', ENTRIES)) do
  if not given[key] then
    local _, number = heard(key)
    if not number or number <= mark then
      table.insert(gone, key)
    end
  end
end
table.sort(gone)
for _, key in ipairs(gone) do
  local version = heard(key) or 0
  redis.call('HDEL', ENTRIES, key)
  redis.call('HSET', HEARD, key, text(version) .. ' ' .. text(mark))
  redis.call('ZADD', DROPPED, text(mark), key)
  log(key, version, '', ARGV[3])
end
for i = 4, #ARGV, 3 do
  local _, number = heard(ARGV[i])
  if not number or number <= mark then
    note(ARGV[i], ARGV[i + 1], mark)
    if redis.call('HGET', ENTRIES, ARGV[i]) ~= ARGV[i + 2] then
      redis.call('HSET', ENTRIES, ARGV[i], ARGV[i + 2])
      log(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[3])
    end
  end
end
prune(ARGV[2])
