-- ARGV: a cursor, '0' at first; how many entries. Returns the next cursor, '0' at the end, and about so many entries as
-- JSON: a client reads one long string many times faster than thousands of short ones. What stays meanwhile comes at
-- least once; what changes meanwhile is in the log.
local found = redis.call('HSCAN', ENTRIES, ARGV[1], 'COUNT', ARGV[2])
return {found[1], cjson.encode(found[2])}
