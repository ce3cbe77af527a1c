#!/bin/sh
# Prints the version of the packages for the version $1 of the program, which may
# be what "git describe --tags --always --dirty" says; $2 is the time of the source
# in seconds.
#
#	1.2.3              1.2.3
#	1.2.3-rc1          1.2.3~rc1          before 1.2.3
#	1.2.3-5-gabcdef0   1.2.3+5.gabcdef0   5 commits after 1.2.3
#	2                  2
#	1.2.3-dirty        1.2.3+dirty        1.2.3, and what is not committed
#	abcdef0            0~TIME.abcdef0     before any release
#
# A version of packages has no hyphen, which would begin the revision of the
# packager. Both dpkg and rpm sort ~ before the end of a version and + after it.
set -eu
version=${1#v}

# Of letters and digits without a point, what begins with v or is a number of up to
# 6 digits is a version; git's names of commits have 7 or more.
if ! echo "$1" | grep -Eq '^(v[0-9]|[0-9].*\.|[0-9]{1,6}(-|$))'; then
	echo "0~$(date -u -d "@$2" +%Y%m%d%H%M%S).$(echo "$version" | tr - .)"
	exit
fi
echo "$version" | sed -E '
	s/-([0-9]+)-(g[0-9a-f]{4,})-dirty$/+\1.\2.dirty/
	s/-([0-9]+)-(g[0-9a-f]{4,})$/+\1.\2/
	s/-dirty$/+dirty/
	s/-/~/g'
