-- Returns built, position, its proof, and the claims as JSON: where a look at the whole index begins (state_part.lua).
local built = redis.call('HGET', META, 'built') or ''
return {built, text(position()), proof(0), cjson.encode(redis.call('HGETALL', CLAIMS))}
