#!/usr/bin/env bash
# Each decision that keeps a session is broken once, in a copy of the tree, and a test has to see it.
# Two to four minutes on two processors.
set -euo pipefail
cd "$(dirname "$0")/.."
strace -o /dev/null true || { echo 'mutations: strace cannot be used here' >&2; exit 2; }
cargo test --test faults mutations -- --ignored --nocapture
