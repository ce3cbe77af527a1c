#!/bin/sh
# Makes the packages in dist/: deb and rpm, for amd64 and arm64.
#
# The same source makes the same bytes: the time in the packages is that of the
# commit, or SOURCE_DATE_EPOCH. VERSION is the version; without it, that of git.
# DIST is another directory, ARCHES other processors.

set -eu
umask 022
cd "$(dirname "$0")/.."
export LC_ALL=C TZ=UTC

go=${GO:-go}
described=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
version=${VERSION:-$described}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

package=$(packaging/version.sh "$version" "$SOURCE_DATE_EPOCH")
version=${version#v}

maintainer=${MAINTAINER:-The tlspolicyd authors <maintainers@tlspolicyd.invalid>}
DIST=${DIST:-dist}
export DIST
root=$DIST/root
rm -rf "$DIST"
mkdir -p "$root/man" "$root/completion"

# build makes the program for the processor $1 in the file $2.
build() {
	CGO_ENABLED=0 GOOS=linux GOARCH=$1 GOFLAGS='' "$go" build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.version=$version" -o "$2" ./cmd/tlspolicyd
}

build "$("$go" env GOHOSTARCH)" "$root/tlspolicyd"
for shell in bash zsh fish; do
	"$root/tlspolicyd" completion "$shell" >"$root/completion/$shell"
done
cp -R docs "$root/doc"
# The others are of use beside the source only.
mkdir "$root/doc/contrib"
for part in grafana nginx postfix prometheus unbound; do
	cp -R "contrib/$part" "$root/doc/contrib/"
done
find "$root/doc" -type d -exec chmod 755 {} +
find "$root/doc" -type f -exec chmod 644 {} +
for page in packaging/man/*; do
	gzip -9n <"$page" >"$root/man/$(basename "$page").gz"
done
{
	echo "tlspolicyd ($package) unstable; urgency=medium"
	echo
	echo "  * What changed is told in CHANGES.md."
	echo
	echo " -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$root/changelog.gz"
{
	echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
	echo
	echo "Files: *"
	sed -n 's/^Copyright (c) /Copyright: /p' LICENSE
	echo "License: Expat"
	sed -n '/^Permission/,$p' LICENSE | sed 's/^$/./; s/^/ /'
} >"$root/copyright"

for arch in ${ARCHES:-amd64 arm64}; do
	mkdir -p "$root/$arch"
	build "$arch" "$root/$arch/tlspolicyd"
	for kind in deb rpm; do
		ARCH=$arch VERSION=$package MAINTAINER=$maintainer \
			"$go" tool -modfile=.ci/tools/nfpm.mod nfpm package \
			--config packaging/nfpm.yaml --packager "$kind" --target "$DIST/"
	done
done
