#!/usr/bin/env bash
# Every fuzz target for a short while, from the kept corpus: what follows the coverage finds what random inputs do not.
#
#   .ci/fuzz.sh                      10 s for each target
#   SECONDS_EACH=600 .ci/fuzz.sh     longer
#   .ci/fuzz.sh url document         these alone
#
# Needs a nightly toolchain and cargo-fuzz, and gets them where it can. Where it cannot, the kept corpus and random
# inputs go through the same properties without any coverage, and the summary says so.
set -euo pipefail
cd "$(dirname "$0")/.."
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET

each=${SECONDS_EACH:-10}
package=fixtures/fuzz
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/fuzz
found=$target/found # inputs that broke a property
jobs=$(nproc)
if [ $# -eq 0 ]; then set -- $(ls "$package/corpus"); fi

without_coverage() { # WHY
    printf '\n*** NOT FUZZED: %s. ***\n*** The kept corpus and random inputs alone go through the properties. ***\n\n' "$1" >&2
    cargo test --test protocol properties
    printf '0 targets fuzzed (%s): 1 passed, 0 failed\n' "$1"
    exit 0
}

if ! cargo +nightly --version >/dev/null 2>&1; then
    timeout 300 rustup toolchain install nightly --profile minimal || without_coverage 'no nightly toolchain can be had'
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    timeout 600 cargo install cargo-fuzz --locked || without_coverage 'cargo-fuzz cannot be installed'
fi

# No sanitizer: nothing here is unsafe, and without one there are twice as many tries.
began=$SECONDS
cargo +nightly fuzz build --fuzz-dir "$package" --sanitizer none --target-dir "$target" 2>&1 | tail -n 3
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
printf 'built in %d s; %d targets for %d s each, %d at a time\n' $((SECONDS - began)) $# "$each" "$jobs"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$found"

fuzz() { # TARGET
    local code=0 corpus=$scratch/$1
    # A copy: what is found in passing is not kept.
    cp -r "$package/corpus/$1" "$corpus"
    nice -n 10 timeout $((each + 60)) "$target/$host/release/$1" "$corpus" \
        -max_total_time="$each" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$found/$1-" >"$scratch/$1.log" 2>&1 || code=$?
    local executions coverage
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/$1.log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 edges, \2 features/p' "$scratch/$1.log" | tail -n 1)
    if [ "$code" -eq 0 ] && [ "${executions:-0}" -gt 0 ]; then
        printf 'ok    %-14s %9d executions, %s\n' "$1" "$executions" "$coverage"
    else
        printf 'FAIL  %-14s exit code %d\n' "$1" "$code"
        grep -a -A 3 'panicked at\|ERROR: libFuzzer' "$scratch/$1.log" || tail -n 20 "$scratch/$1.log"
        sed -n 's/.*Test unit written to /keep it in the corpus, and mend what it breaks: /p' "$scratch/$1.log"
        return 1
    fi
}

passed=0
failed=0
running=()
collect() {
    if wait "${running[0]}"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    running=("${running[@]:1}")
}
for name in "$@"; do
    if [ "${#running[@]}" -ge "$jobs" ]; then collect; fi
    fuzz "$name" &
    running+=($!)
done
while [ "${#running[@]}" -gt 0 ]; do collect; done

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
