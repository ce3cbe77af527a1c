package redisstore

import "github.com/redis/go-redis/v9"

// saveScript puts a value in the place of KEYS[1], unless a record of a later
// fetch stands there. It tells the other relays if the policy or its id is
// another one than before. The arguments are
//
//	1 the value       4 the most that a time of fetch can be
//	2 when fetched    5 the channel
//	3 when it ends    6 the message
//
// in seconds of Unix time, 3 in milliseconds. Whatever else stands there is
// replaced: another type (GETRANGE fails), another form, a time of fetch that
// can not be. Only the head of the old value is read, as it may be huge. All is
// done with one key, so a cluster runs it too; PUBLISH reaches every node of
// one. There is no moment in which others see the key without a time to live.
var saveScript = redis.NewScript(`
local function read(value)
	local fetched, digest = string.match(value, '^1 (%d+) (%x+)\n')
	return tonumber(fetched), digest
end
local old = redis.pcall('GETRANGE', KEYS[1], 0, 127)
local fetched, digest
if type(old) == 'string' then
	fetched, digest = read(old)
end
if fetched and fetched > tonumber(ARGV[2]) and fetched <= tonumber(ARGV[4]) then
	return 0
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
local _, new = read(ARGV[1])
if digest ~= new then
	redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return 1
`)
