#!/usr/bin/env bash
# The power is cut at each point of a refresh, an adoption, a clearing, a login and a logout, and the next process has
# to go on from what a disk may have kept. Less than a minute on two processors.
set -euo pipefail
cd "$(dirname "$0")/.."
strace -o /dev/null true || { echo 'power-cut: strace cannot be used here' >&2; exit 2; }
cargo test --test faults power_cut -- --ignored --nocapture --test-threads 8 | tee >(cat >&2) |
    sed -n 's/^test result: .* \([0-9]* passed\); \([0-9]* failed\).*/\1, \2/p'
