-- Stands before every script. One tenant's index lies in nine keys with one hash tag, all passed in this order:
--   META     hash  start: what number and position began with; number: of the last word; position: of the last change;
--                  proof: of the last change; built: '1' after the first rebuild
--   ENTRIES  hash  entry's key -> its body as JSON, written by redis_store.py; keys begin with w: (waiting), a: (agent)
--   HEARD    hash  entry's key -> "version number" of the newest word about it, dropped entries too
--   DROPPED  zset  keys of dropped entries by number
--   LOG      list  what took effect, [key, version, body ('' when it was dropped), proof]; the last one has META's position.
--                  A proof is a digest of all lines up to its own, as memory_store.py says
--   CLAIMS   hash  request id -> [session, agent, expires_at], live ones
--   HOLDERS  hash  entry's key -> the request id of the live claim on it
--   ANSWERS  hash  request id -> [granted, session, agent], until the claim's end
--   ENDS     zset  request ids by expires_at
-- The rules are those of memory_store.py. Numbers fit doubles exactly: they are microseconds of this century.
local META, ENTRIES, HEARD, DROPPED, LOG, CLAIMS, HOLDERS, ANSWERS, ENDS = unpack(KEYS)

local function text(number)
  return string.format('%.0f', number)
end

-- Numbers and positions begin at the server's time in microseconds: after a flush beyond everything older.
local function begin()
  if redis.call('HEXISTS', META, 'number') == 0 then
    local time = redis.call('TIME')
    local start = text(time[1] * 1000000 + time[2])
    redis.call('HSET', META, 'start', start, 'number', start, 'position', start, 'proof', 'start ' .. start)
  end
end

-- The number of the last word.
local function current()
  begin()
  return tonumber(redis.call('HGET', META, 'number'))
end

-- The position of the last change.
local function position()
  begin()
  return tonumber(redis.call('HGET', META, 'position'))
end

-- Version and number of the newest word about an entry; nil when nothing is known.
local function heard(key)
  local version, number = string.match(redis.call('HGET', HEARD, key) or '', '^(%d+) (%d+)$')
  return tonumber(version), tonumber(number)
end

-- The newest word about an entry; if it was dropped, that is over.
local function note(key, version, number)
  redis.call('ZREM', DROPPED, key)
  redis.call('HSET', HEARD, key, version .. ' ' .. text(number))
end

-- Number a word about an entry; nil when it is older than what is known, and changes nothing.
local function hear(key, version)
  local before = heard(key)
  if before and tonumber(version) < before then
    return nil
  end
  begin()
  local number = redis.call('HINCRBY', META, 'number', 1)
  note(key, version, number)
  return number
end

-- Something took effect.
local function log(key, version, body, kept)
  begin()
  redis.call('HINCRBY', META, 'position', 1)
  local line = (redis.call('HGET', META, 'proof') or '') .. ' ' .. key .. ' ' .. text(version)
  local proof = redis.sha1hex(line .. (body == '' and ' gone' or ' here'))
  redis.call('HSET', META, 'proof', proof)
  redis.call('RPUSH', LOG, cjson.encode({key, text(version), body, proof}))
  redis.call('LTRIM', LOG, -tonumber(kept), -1)
end

-- Forget the dropped entries of the lowest numbers beyond those that are kept.
local function prune(kept)
  local surplus = redis.call('ZCARD', DROPPED) - tonumber(kept)
  if surplus > 0 then
    for _, key in ipairs(redis.call('ZRANGE', DROPPED, 0, surplus - 1)) do
      redis.call('HDEL', HEARD, key)
    end
    redis.call('ZREMRANGEBYRANK', DROPPED, 0, surplus - 1)
  end
end

-- JSON that somebody else may have written: nil when it is none.
local function decode(body)
  local good, value = pcall(cjson.decode, body)
  if good and type(value) == 'table' then
    return value
  end
  return nil
end

-- End a claim, as far as it still holds.
local function release(request)
  local claim = decode(redis.call('HGET', CLAIMS, request) or '')
  redis.call('HDEL', CLAIMS, request)
  if claim then
    for _, key in ipairs({'w:' .. tostring(claim[1]), 'a:' .. tostring(claim[2])}) do
      if redis.call('HGET', HOLDERS, key) == request then
        redis.call('HDEL', HOLDERS, key)
      end
    end
  end
end

-- A rebuild goes on in the index that it began with, and nothing was lost in between.
local function same(start)
  return redis.call('HGET', META, 'start') == start
end

-- What a mark is worth here.
local function worth(mark)
  if tonumber(mark) > current() then
    return 0 -- from before a flush, or of words that a failover lost
  end
  return tonumber(mark)
end

-- Of the line so far from the end of the log; before its first one, where that is.
local function proof(behind)
  begin()
  if behind == 0 then
    return redis.call('HGET', META, 'proof') or ''
  end
  local line = decode(redis.call('LINDEX', LOG, -behind - 1) or '')
  return line and line[4] or 'start ' .. text(position() - behind)
end
