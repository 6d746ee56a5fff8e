-- Returns which index this is, and the keys of its entries as JSON.
begin()
return {redis.call('HGET', META, 'start'), cjson.encode(redis.call('HKEYS', ENTRIES))}
