#!/bin/sh
# Makes the context of an image in the directory $1, which must not exist. Needs
# Go, and the root certificates of this machine or those of the file $CA.
set -eu
umask 022
context=${1:?usage: build.sh DIRECTORY}
mkdir "$context"
context=$(cd "$context" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

root=$context/root
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/var/lib/tlspolicyd" "$root/run/tlspolicyd"
CGO_ENABLED=0 GOOS=linux GOARCH="${ARCH:-$(go env GOARCH)}" go build -trimpath -buildvcs=false \
	-ldflags "-s -w -buildid= -X main.version=${VERSION:-container}" -o "$root/usr/bin/tlspolicyd" ./cmd/tlspolicyd
cp "${CA:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
# The user of the image; the directories become its own in a volume.
chmod 0777 "$root/var/lib/tlspolicyd" "$root/run/tlspolicyd"
echo "tlspolicyd:x:8461:8461::/var/lib/tlspolicyd:/sbin/nologin" >"$root/etc/passwd"
echo "tlspolicyd:x:8461:" >"$root/etc/group"
cp "$here/Containerfile" "$context/"
