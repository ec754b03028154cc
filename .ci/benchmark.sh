#!/usr/bin/env bash
# A short run of the benchmark: each storm makes one refresh request and gives the same token to all. No time is judged,
# and docs/ stays as it is.
#
#   ONEGRANT=path/to/onegrant .ci/benchmark.sh
set -euo pipefail
cd "$(dirname "$0")/.."
: "${ONEGRANT:?the path of the binary}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo test --locked --bench benchmark -- --output "$scratch" | tee "$scratch/printed"
for plot in hot-path storm-time storm-processor storm-delay others; do
    grep -q "(benchmark/$plot.svg)" "$scratch/benchmark.md"
    grep -q '^</svg>' "$scratch/benchmark/$plot.svg"
done
# Its own last line counts the storms.
tail -n 1 "$scratch/printed" | grep -qx '[1-9][0-9]* passed, 0 failed'
