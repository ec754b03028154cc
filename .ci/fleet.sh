#!/usr/bin/env bash
# A short run of the simulated fleet: one refresh for each generation, no grant lost that a grace period should keep.
# docs/ stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo test --locked --bench fleet -- --output "$scratch" | tee "$scratch/printed"
for plot in last-token store waiting; do
    grep -q "(fleet/$plot.svg)" "$scratch/fleet.md"
    grep -q '^</svg>' "$scratch/fleet/$plot.svg"
done
# Its own last line counts the runs.
tail -n 1 "$scratch/printed" | grep -qx '[1-9][0-9]* passed, 0 failed'
