#!/bin/sh
# The demonstration: builds it, runs it and prints its table. Everything happens
# in namespaces of its own, and nothing is left behind. As root, after
# test/setup.sh.
set -eu
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
"${GO:-go}" test -c -tags e2e -o "$dir/demo" .
"$dir/demo" -test.run '^TestDemo$'
