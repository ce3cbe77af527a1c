#!/bin/sh
# Prepares a Debian machine for the end-to-end tests; see README.md.
#
# It installs the daemons that the lab runs, and builds once a tree of the next
# Debian release, in which a newer Postfix and Valkey are run, and a copy of it with systemd
# and rpm, in which the packages are installed. What is there already is left
# alone: a second run takes no time. It starts no service and leaves none behind.
# The trees are kept outside of the checkout, in $XDG_CACHE_HOME/tlspolicyd-test or,
# where that is not set, in /var/cache/tlspolicyd-test; remove them to build them anew.

set -eu

packages="postfix unbound knot debootstrap iproute2 bind9-dnsutils systemd rpm lintian man-db prometheus nginx zsh fish redis-server bash-completion"
release=trixie
needed=3.10.5 # the first Postfix that matches MX hosts with a policy
cache=${XDG_CACHE_HOME:-/var/cache}/tlspolicyd-test
tree=$cache/$release
booted=$tree-systemd # the same with systemd, in which the packages are installed

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() {
	echo "test/setup.sh: $*" >&2
}

fail() {
	say "$*"
	exit 1
}

installed() {
	dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

# Runs a command that may start services: they get processes, a network and a
# view of the file system of their own, in which no systemd is running, and end
# with the command.
contained() {
	unshare --mount --pid --net --fork --kill-child --mount-proc sh -c '
		[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd
		exec "$@"' sh "$@"
}

install_packages() {
	missing=
	for package in $packages; do
		installed "$package" || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	say "installing$missing"
	echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
	apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	apt-get install -q -y --no-install-recommends --download-only $missing
	# shellcheck disable=SC2086
	contained apt-get install -q -y --no-install-recommends --no-download $missing
}

# The mirror is the one that this machine gets its packages from.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk '$3 == "main" && $2 !~ /security|updates|backports/ { print $1; exit }'
}

build_tree() {
	[ ! -e "$tree/.complete" ] || return 0
	from=$(mirror)
	[ -n "$from" ] || fail "apt knows no Debian mirror"
	say "building $tree"
	mkdir -p "$cache"
	rm -rf "$tree.new"
	debootstrap --variant=minbase "$release" "$tree.new" "$from"
	printf '#!/bin/sh\nexit 101\n' >"$tree.new/usr/sbin/policy-rc.d"
	chmod 755 "$tree.new/usr/sbin/policy-rc.d"
	echo "postfix postfix/main_mailer_type select No configuration" | chroot "$tree.new" debconf-set-selections
	chroot "$tree.new" apt-get install -q -y --no-install-recommends --download-only postfix
	contained chroot "$tree.new" apt-get install -q -y --no-install-recommends --no-download postfix
	chroot "$tree.new" apt-get clean
	rm -f "$tree.new/etc/resolv.conf"
	: >"$tree.new/etc/resolv.conf"
	have=$(dpkg-query --admindir="$tree.new/var/lib/dpkg" -W -f '${Version}' postfix)
	dpkg --compare-versions "$have" ge "$needed" || fail "Postfix $have of $release is older than $needed"
	echo "$have" >"$tree.new/.complete"
	rm -rf "$tree"
	mv "$tree.new" "$tree"
}

build_booted() {
	[ ! -e "$booted/.complete" ] || return 0
	say "building $booted"
	rm -rf "$booted.new"
	cp -a "$tree" "$booted.new"
	rm "$booted.new/.complete" "$booted.new/etc/resolv.conf"
	cp /etc/resolv.conf "$booted.new/etc/resolv.conf"
	chroot "$booted.new" apt-get update -q
	chroot "$booted.new" apt-get install -q -y --no-install-recommends --download-only systemd dbus rpm
	contained chroot "$booted.new" apt-get install -q -y --no-install-recommends --no-download systemd dbus rpm
	chroot "$booted.new" apt-get clean
	: >"$booted.new/etc/resolv.conf"
	dpkg-query --admindir="$booted.new/var/lib/dpkg" -W -f '${Version}\n' systemd >"$booted.new/.complete"
	rm -rf "$booted"
	mv "$booted.new" "$booted"
}

# Adds a package to the tree, which may have been built without it.
add_to_tree() {
	! dpkg-query --admindir="$tree/var/lib/dpkg" -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed || return 0
	say "adding $1 to $tree"
	unshare --mount sh -e -c '
		mount --bind /etc/resolv.conf "$1/etc/resolv.conf"
		chroot "$1" apt-get update -q
		chroot "$1" apt-get install -q -y --no-install-recommends --download-only "$2"' sh "$tree" "$1"
	contained chroot "$tree" apt-get install -q -y --no-install-recommends --no-download "$1"
	chroot "$tree" apt-get clean
}

[ "$(id -u)" = 0 ] || fail "must be run by root"
install_packages
build_tree
build_booted
add_to_tree valkey-server
