#!/usr/bin/env bash
# Each call by which a command meets its store fails once, with each error that it can have, and the next process has to
# go on from there. One to two minutes on two processors.
set -euo pipefail
cd "$(dirname "$0")/.."
strace -o /dev/null true || { echo 'faults: strace cannot be used here' >&2; exit 2; }
cargo test --test faults fault_sweep -- --ignored --nocapture --test-threads 2 | tee >(cat >&2) |
    sed -n 's/^test result: .* \([0-9]* passed\); \([0-9]* failed\).*/\1, \2/p'
