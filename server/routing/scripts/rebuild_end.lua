-- ARGV: which index. Returns 0 when it is lost.
if not same(ARGV[1]) then
  return 0
end
redis.call('HSET', META, 'built', '1')
return 1
