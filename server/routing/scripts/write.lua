-- ARGV: how many dropped entries are kept, how many log lines, then key, version, body ('': dropped) of each word
for i = 3, #ARGV, 3 do
  local key, version, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local number = hear(key, version)
  if number and body ~= '' then
    redis.call('HSET', ENTRIES, key, body)
    log(key, version, body, ARGV[2])
  elseif number then
    redis.call('ZADD', DROPPED, text(number), key)
    prune(ARGV[1])
    if redis.call('HDEL', ENTRIES, key) == 1 then
      log(key, version, '', ARGV[2])
    end
  end
end
