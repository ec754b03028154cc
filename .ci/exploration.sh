#!/usr/bin/env bash
# Every interleaving of a few machines: the searches that are too long for `cargo test`. Half a minute on two processors.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --lib session::exploration -- --ignored --nocapture | tee >(cat >&2) |
    sed -n 's/^test result: .* \([0-9]* passed\); \([0-9]* failed\).*/\1, \2/p'
