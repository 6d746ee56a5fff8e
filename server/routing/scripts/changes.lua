-- ARGV: position, its proof. Returns the newest position, whether what follows the given one is lost, what follows as a
-- JSON list of log lines (a client reads one long string many times faster than thousands of short ones), and the newest
-- proof.
local now = position()
local behind = now - tonumber(ARGV[1])
local lost = redis.call('HGET', META, 'built') ~= '1' or behind < 0 or behind > redis.call('LLEN', LOG)
if lost or proof(behind) ~= ARGV[2] then
  return {text(now), 1, '[]', ''}
end
local lines = behind > 0 and redis.call('LRANGE', LOG, -behind, -1) or {}
return {text(now), 0, '[' .. table.concat(lines, ',') .. ']', proof(0)}
