#!/usr/bin/env bash
# A refresh is killed at each of its system calls in turn, and the next process has to go on from there.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --test crash_sweep -- --ignored --nocapture
