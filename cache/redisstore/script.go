package redisstore

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// maxAhead is how far in the future a fetch can be without giving way to any
// other.
const maxAhead = 5 * time.Minute

// saveScript puts a value in the place of KEYS[1], unless a record of a later
// fetch stands there. It tells the other relays if the policy or its id is
// another one than before. The arguments are
//
//	1 the value       4 how far ahead a fetch can be
//	2 when fetched    5 the channel
//	3 when it ends    6 the message
//
// in seconds of Unix time, 3 in milliseconds. What time it is, the server says:
// the clock of a relay may be wrong, and would take away what the others keep.
// A value that has ended changes nothing. Whatever else stands there is
// replaced: another type (GETRANGE fails), another form, a time of fetch that
// can not be. Only the head of the old value is read, as it may be huge. All is
// done with one key, so a cluster runs it too; PUBLISH reaches every node of
// one. The key and its end are set by one command, since what a script has done
// stays when it may not go on.
var saveScript = redis.NewScript(`
local function read(value)
	local fetched, digest = string.match(value, '^1 (%d+) (%x+)\n')
	return tonumber(fetched), digest
end
local time = redis.call('TIME')
local now = tonumber(time[1])
local left = tonumber(ARGV[3]) - now * 1000 - math.floor(tonumber(time[2]) / 1000)
if left < 1000 then
	return 0
end
local function weight(fetched)
	if not fetched or fetched > now + tonumber(ARGV[4]) then
		return 0
	end
	return fetched
end
local old = redis.pcall('GETRANGE', KEYS[1], 0, 127)
local fetched, digest
if type(old) == 'string' then
	fetched, digest = read(old)
end
if weight(fetched) > weight(tonumber(ARGV[2])) then
	return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', left)
local _, new = read(ARGV[1])
if digest ~= new then
	redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return 1
`)
