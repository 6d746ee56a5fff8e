-- ARGV: now, then request id, session id, agent id, expires_at of each claim. Returns a list of 1 (granted) and 0.
local now = tonumber(ARGV[1])

for _, over in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', ARGV[1])) do
  release(over)
  redis.call('HDEL', ANSWERS, over)
end
redis.call('ZREMRANGEBYSCORE', ENDS, '-inf', ARGV[1])

-- Session: [version, held, channel, …]; agent: [version, [channel, …], …].
local function fit(session, agent)
  local waiting = decode(redis.call('HGET', ENTRIES, session) or '')
  local present = decode(redis.call('HGET', ENTRIES, agent) or '')
  if not waiting or waiting[2] ~= 0 or not present or type(present[2]) ~= 'table' then
    return false
  end
  for _, channel in ipairs(present[2]) do
    if channel == waiting[3] then
      return true
    end
  end
  return false
end

local function claim(request, session, agent, expires_at)
  local answer = decode(redis.call('HGET', ANSWERS, request) or '')
  if answer then
    return (answer[1] == 1 and answer[2] == session and answer[3] == agent) and 1 or 0
  end
  if tonumber(expires_at) <= now then
    return 0
  end
  local keys = {'w:' .. session, 'a:' .. agent}
  local holders = redis.call('HMGET', HOLDERS, keys[1], keys[2])
  local granted = (not holders[1] and not holders[2] and fit(keys[1], keys[2])) and 1 or 0
  if granted == 1 then
    redis.call('HSET', CLAIMS, request, cjson.encode({session, agent, expires_at}))
    redis.call('HSET', HOLDERS, keys[1], request, keys[2], request)
  end
  redis.call('HSET', ANSWERS, request, cjson.encode({granted, session, agent}))
  redis.call('ZADD', ENDS, expires_at, request)
  return granted
end

local results = {}
for i = 2, #ARGV, 4 do
  table.insert(results, claim(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]))
end
return results
