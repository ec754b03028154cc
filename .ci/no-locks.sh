#!/usr/bin/env bash
# The store on FUSE file systems whose locks are refused, lie or hang, and which know neither hard links nor fallocate; two
# mounts of one directory are two machines. Half a minute, and what apt-get takes.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -c /dev/fuse ] || { echo 'no-locks: there is no /dev/fuse here' >&2; exit 2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}
if ! pkg-config --exists fuse3 || ! command -v fusermount3 >/dev/null; then
    as_root timeout 300 apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive timeout 600 \
        apt-get install -y -qq --no-install-recommends fuse3 libfuse3-dev pkg-config gcc >/dev/null
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for source in main inodes; do
    # shellcheck disable=SC2046 # flags are words
    cc -O1 -Wall -Wextra -Werror -o "$scratch/$source" fixtures/no_locks/$source.c $(pkg-config --cflags --libs fuse3)
done
ONEGRANT_NO_LOCKS=$scratch/main ONEGRANT_INODES=$scratch/inodes cargo test --test faults file_systems -- --ignored --nocapture | tee >(cat >&2) |
    sed -n 's/^test result: .* \([0-9]* passed\); \([0-9]* failed\).*/\1, \2/p'
