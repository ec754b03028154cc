#!/usr/bin/env bash
# Every interleaving of a few machines: what takes minutes rather than seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --lib session::exploration -- --ignored --nocapture
