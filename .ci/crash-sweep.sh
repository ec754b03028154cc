#!/usr/bin/env bash
# Commands are killed at each of their system calls in turn, and the next process has to go on from there.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --test faults crash_sweep -- --ignored --nocapture
