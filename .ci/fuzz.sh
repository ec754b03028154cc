#!/usr/bin/env bash
# Proves that each parser of foreign bytes keeps its properties for inputs that follow the coverage, from the kept corpus.
#
#   .ci/fuzz.sh                      10 s for each parser
#   SECONDS_EACH=600 .ci/fuzz.sh     longer
#   .ci/fuzz.sh url document         only these parsers
#
# Needs Rust and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET

export seconds_each=${SECONDS_EACH:-10} corpus=$PWD/fixtures/fuzz/corpus
target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/fuzz
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export scratch fuzzer found=$target/found # inputs that broke a property
mkdir -p "$found"

# The flags of cargo-fuzz, without a sanitizer: the code has nothing unsafe, and so makes twice as many tries.
flags='--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module'
for option in sanitizer-coverage-{level=4,inline-8bit-counters,pc-table,trace-compares,stack-depth} simplifycfg-branch-fold-threshold=0; do
    flags+=" -Cllvm-args=-$option"
done
RUSTFLAGS=$flags CARGO_TARGET_DIR=$target cargo build --release --locked --manifest-path fixtures/fuzz/Cargo.toml \
    --message-format=json-render-diagnostics >"$scratch/messages"
fuzzer=$(jq -r 'select(.target.name? == "parser").executable // empty' "$scratch/messages")
echo "built after $SECONDS s"

fuzz() { # PARSER
    local code=0 log=$scratch/$1.log
    # A copy of the corpus, because the fuzzer adds its own inputs.
    cp -r "$corpus/$1" "$scratch/$1"
    # It has the time that all others leave, so it may take long to begin.
    PARSER=$1 nice timeout $((seconds_each + 600)) "$fuzzer" "$scratch/$1" -max_total_time="$seconds_each" -max_len=4096 \
        -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$found/$1-" >"$log" 2>&1 || code=$?
    if [ "$code" = 0 ] && grep -q '^stat::number_of_executed_units: *[1-9]' "$log"; then
        printf 'ok    %-17s %s\n' "$1" "$(grep -ao 'cov: .* corp' "$log" | tail -n 1), $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    else
        printf 'FAIL  %s ends with %d\n' "$1" "$code"
        grep -a -A 3 'panicked at\|ERROR: libFuzzer' "$log" || tail -n 20 "$log"
        sed -n 's/.*Test unit written to /fix what this breaks, and keep it in the corpus: /p' "$log"
        return 1
    fi
}
export -f fuzz
[ $# -gt 0 ] || set -- $(ls "$corpus")
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 bash -c 'fuzz "$1"' fuzz
printf '%d passed, 0 failed\n' $#
