-- Returns built, entries, claims: one consistent look.
return {redis.call('HGET', META, 'built') or '', redis.call('HGETALL', ENTRIES), redis.call('HGETALL', CLAIMS)}
