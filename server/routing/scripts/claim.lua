-- ARGV: request id, session id, agent id, expires_at, now. Returns 1 when both are this request's.
local request, session, agent, expires_at, now = unpack(ARGV)

for _, over in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', now)) do
  redis.call('HDEL', CLAIMS, over)
  redis.call('HDEL', ANSWERS, over)
end
redis.call('ZREMRANGEBYSCORE', ENDS, '-inf', now)

local answer = decode(redis.call('HGET', ANSWERS, request) or '')
if answer then
  return (answer[1] == 1 and answer[2] == session and answer[3] == agent) and 1 or 0
end
if tonumber(expires_at) <= tonumber(now) then
  return 0
end

local function granted()
  local waiting = decode(redis.call('HGET', ENTRIES, 'w:' .. session) or '')
  if not waiting or waiting[5] ~= 0 or redis.call('HEXISTS', ENTRIES, 'f:' .. agent) == 0 then
    return 0 -- gone, or held
  end
  for _, body in ipairs(redis.call('HVALS', CLAIMS)) do -- claims live for milliseconds: there are few
    local claim = decode(body)
    if claim and (claim[1] == session or claim[2] == agent) then
      return 0
    end
  end
  return 1
end

local result = granted()
if result == 1 then
  redis.call('HSET', CLAIMS, request, cjson.encode({session, agent, expires_at}))
end
redis.call('HSET', ANSWERS, request, cjson.encode({result, session, agent}))
redis.call('ZADD', ENDS, expires_at, request)
return result
