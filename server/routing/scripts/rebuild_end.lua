-- ARGV: which index, how many dropped entries are kept. Returns 0 when it is lost.
if not same(ARGV[1]) then
  return 0
end
prune(ARGV[2])
redis.call('HSET', META, 'built', '1')
return 1
