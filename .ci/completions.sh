#!/usr/bin/env bash
# What the completions offer in zsh and fish, and whether the pages of the manual are well-formed; what is missing is
# installed where apt-get can be used. Half a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
for program in zsh fish mandoc; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ "${#missing[@]}" -gt 0 ]; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    "${as_root[@]}" timeout 300 apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive timeout 600 \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
cargo test --test command_line completions -- --ignored --nocapture | sed -n 's/^test result: .* \([0-9]* passed\); \([0-9]* failed\).*/\1, \2/p'
# A page that is made from the command line has no date of its own.
if { mandoc -T lint -W warning docs/man/*.1 || true; } | grep -v 'missing date'; then
    exit 1
fi
pages=(docs/man/*.1)
echo "${#pages[@]} pages are well-formed"
