#!/usr/bin/env bash
# The crowds without a lock, fifty rounds of each: no session is lost, and no process fails.
set -euo pipefail
cd "$(dirname "$0")/.."
ONEGRANT_TEST_ROUNDS=50 cargo test --test refresh comparison_loop
