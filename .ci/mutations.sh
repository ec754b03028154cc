#!/usr/bin/env bash
# Each decision that keeps a session is broken once, in a copy of the tree, and a test has to see it.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --test mutations -- --ignored --nocapture
