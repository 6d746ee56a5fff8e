-- ARGV: position. Returns the newest position, whether what follows the given one is lost, and it, as a JSON list of
-- log lines: a client reads one long string many times faster than thousands of short ones.
local now = position()
local behind = now - tonumber(ARGV[1])
if redis.call('HGET', META, 'built') ~= '1' or behind < 0 or behind > redis.call('LLEN', LOG) then
  return {text(now), 1, '[]'}
end
if behind == 0 then
  return {text(now), 0, '[]'}
end
return {text(now), 0, '[' .. table.concat(redis.call('LRANGE', LOG, -behind, -1), ',') .. ']'}
