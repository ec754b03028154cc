#!/usr/bin/env bash
# One system call of a refresh fails: what the process says, and that the session lives on afterwards.
#
#   ONEGRANT=path/to/onegrant .ci/faults.sh
#
# Needs strace, and leave to trace.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${ONEGRANT:?the path of the binary}"
strace -o /dev/null true || { echo 'faults: strace cannot be used here' >&2; exit 2; }

scratch=$(mktemp -d)
server=
clean_up() {
    exec 9>&- || true
    [ -z "$server" ] || wait "$server" || true
    rm -rf "$scratch"
}
trap clean_up EXIT

cargo build --quiet --example authorization_server
program=$(cargo build --quiet --example authorization_server --message-format=json |
    sed -n 's/.*"name":"authorization_server".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
mkfifo "$scratch/hold"
"$program" --auto-approve <"$scratch/hold" >"$scratch/ready" &
server=$!
exec 9>"$scratch/hold"
for _ in $(seq 200); do [ -s "$scratch/ready" ] && break; sleep 0.05; done
issuer=$(sed -n 's/.*"issuer":"\([^"]*\)".*/\1/p' "$scratch/ready")
client=$(sed -n 's/.*"client_id":"\([^"]*\)".*/\1/p' "$scratch/ready")

export ONEGRANT_HOME=$scratch/home
"$ONEGRANT" login "$issuer" --client-id "$client" --device 2>/dev/null

passed=0
failed=0
# INJECTION WANTED_EXIT_CODE WORDS: a refresh under the fault, then one without it.
check() {
    local code=0 alive=0 token words
    token=$("$ONEGRANT" token)
    printf %s "$token" >"$scratch/rejected"
    strace -f -o /dev/null -e "inject=$1" "$ONEGRANT" -v refresh --rejected \
        <"$scratch/rejected" >"$scratch/out" 2>"$scratch/err" || code=$?
    words=$(grep -c -- "$3" "$scratch/err" || true)
    "$ONEGRANT" token >"$scratch/rejected"
    "$ONEGRANT" refresh --rejected <"$scratch/rejected" >"$scratch/new" 2>>"$scratch/err" || alive=$?
    if [ "$code" = "$2" ] && [ "$words" -ge 1 ] && [ "$alive" = 0 ] && ! cmp -s "$scratch/new" "$scratch/rejected"; then
        passed=$((passed + 1))
        printf 'ok    %s: exit %s, "%s", alive\n' "$1" "$code" "$3"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s: exit %s (wanted %s), alive %s\n' "$1" "$code" "$2" "$alive"
        cat "$scratch/err"
        rm -rf "$ONEGRANT_HOME"
        "$ONEGRANT" login "$issuer" --client-id "$client" --device 2>/dev/null
    fi
}

for errno in ENOLCK EOPNOTSUPP ENOSYS EINVAL; do
    check "flock:error=$errno" 0 'no lock can be held here'
done
check flock:error=EIO 5 'cannot lock'
check fsync:error=EIO:when=1 5 'cannot write'
check fsync:error=EIO:when=2 5 'cannot reserve room'
check fsync:error=EIO:when=3 5 'cannot reserve room'
check fsync:error=EIO:when=4 0 'waits in'
check fsync:error=EIO:when=5 0 'refreshed'
check write:error=ENOSPC:when=1 5 'cannot write'
check fallocate:error=ENOSPC 5 'cannot reserve room'
check fallocate:error=EOPNOTSUPP 0 'stored'
check linkat:error=EPERM 0 'stored'
check rename:error=EBUSY 0 'stored'
check rename:error=EXDEV 0 'the next onegrant adopts it'
check rename:error=EIO 0 'the next onegrant adopts it'
check getdents64:error=EIO 5 'cannot read'
check clone3:error=EAGAIN 0 'stored'

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
