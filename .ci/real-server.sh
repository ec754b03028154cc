#!/usr/bin/env bash
# The binary against a real, independent OpenID provider (npm oidc-provider), which ends the whole grant when a
# refresh token is replayed: device login, 50 processes on an expired session, one refresh, whoami, logout.
#
#   ONEGRANT=path/to/onegrant .ci/real-server.sh
#
# Needs bash, node and npm. Writes into a temporary directory alone, and removes it.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
: "${ONEGRANT:?the path of the binary}"
ONEGRANT=$(cd "$(dirname "$ONEGRANT")" && pwd)/$(basename "$ONEGRANT")
[ -x "$ONEGRANT" ] || { echo "real-server: $ONEGRANT is no program" >&2; exit 2; }
for program in node npm timeout; do
    command -v "$program" >/dev/null || { echo "real-server: $program is missing" >&2; exit 2; }
done

processes=50
lifetime_seconds=6 # a refresh and 50 processes fit into it, also on a busy machine
limit_seconds=60   # for one command
passed=0
failed=0
server=
login=

work=$(mktemp -d)
clean_up() {
    for child in $server $login; do kill "$child" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

step() { printf '\n== %s\n' "$*"; }
finish() {
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] || exit 1
    exit 0
}
check() { # DESCRIPTION WANTED FOUND
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
        printf 'ok    %s: %s\n' "$1" "$3"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s: %s, wanted %s\n' "$1" "$3" "$2"
    fi
}
give_up() { # FILE...
    failed=$((failed + 1))
    printf 'FAIL  %s\n' "$1"
    shift
    tail -n 20 "$@" 2>/dev/null || true
    finish
}
wait_until() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}
onegrant() { timeout "$limit_seconds" "$ONEGRANT" "$@"; }
exit_code() { # COMMAND...
    local code=0
    "$@" >"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
    printf '%s' "$code"
}
# The first member of that name, at any depth, in one of the JSON objects on stdin; one object a line or one in all.
member() { # NAME
    node -e '
        const text = require("fs").readFileSync(0, "utf8");
        const find = (value) => {
            if (value === null || typeof value !== "object") return undefined;
            if (Object.hasOwn(value, process.argv[1])) return value[process.argv[1]];
            return Object.values(value).map(find).find((found) => found !== undefined);
        };
        const objects = (() => {
            try { return [JSON.parse(text)]; } catch {}
            return text.split("\n").map((line) => { try { return JSON.parse(line); } catch { return null; } });
        })();
        const found = find(objects);
        if (found === undefined) process.exit(1);
        console.log(typeof found === "object" ? JSON.stringify(found) : String(found));
    ' "$1"
}
has_member() { [ -s "$2" ] && member "$1" <"$2" >"$work/member"; } # NAME FILE
http() { # URL [BODY on stdin]: status and body
    node -e '
        const [, url, method] = process.argv;
        const body = method === "POST" ? require("fs").readFileSync(0, "utf8").trim() : undefined;
        const headers = process.env.BEARER ? { authorization: `Bearer ${process.env.BEARER}` } : {};
        if (body !== undefined) headers["content-type"] = "application/x-www-form-urlencoded";
        fetch(url, { method, body, headers, signal: AbortSignal.timeout(10000) })
            .then(async (answer) => console.log(answer.status, (await answer.text()).trim()));
    ' "$1" "${2:-GET}"
}
# Requests with a refresh token at the server, whatever it answered.
refreshes() {
    http "$issuer/counts" | sed 's/^200 //' | node -e '
        const counts = JSON.parse(require("fs").readFileSync(0, "utf8")).refresh_token ?? {};
        const sorted = Object.entries(counts).map(([result, number]) => `${number} ${result}`);
        console.log(sorted.join(", ") || "none");
    '
}

step 'install oidc-provider'
mkdir "$work/server" "$work/home"
cp "$repository"/fixtures/oidc_provider/{package.json,package-lock.json,server.mjs,approve.mjs} "$work/server"
(cd "$work/server" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
    >"$work/npm" 2>&1 </dev/null || give_up 'npm ci' "$work/npm"

step "start it (access tokens live $lifetime_seconds s, refresh tokens rotate, a replay ends the grant)"
ACCESS_TOKEN_SECONDS=$lifetime_seconds node "$work/server/server.mjs" \
    >"$work/server.json" 2>"$work/server.log" </dev/null &
server=$!
wait_until 30 has_member issuer "$work/server.json" || give_up 'the server did not start' "$work/server.log"
issuer=$(cat "$work/member")
echo "$issuer"

# Nothing of the caller's: neither his profile nor his store, lock mode or proxy.
for variable in $(compgen -e); do
    case $variable in ONEGRANT_* | [Hh][Tt][Tt][Pp]*_[Pp][Rr][Oo][Xx][Yy] | ALL_PROXY | all_proxy) unset "$variable" ;; esac
done
export ONEGRANT_HOME=$work/home

step 'log in with the device flow'
timeout "$limit_seconds" "$ONEGRANT" login "$issuer" --client-id onegrant --device --scope 'openid offline_access' --json \
    >"$work/login" 2>"$work/login.err" </dev/null &
login=$!
asks() { has_member verification_uri_complete "$work/login"; }
asks_or_has_ended() { asks || ! kill -0 "$login" 2>/dev/null; }
{ wait_until 30 asks_or_has_ended && asks; } ||
    give_up 'login asks for nothing' "$work/login" "$work/login.err"
node "$work/server/approve.mjs" "$(cat "$work/member")" >"$work/approve" 2>&1 </dev/null ||
    give_up 'the approval' "$work/approve"
cat "$work/approve"
code=0
wait "$login" || code=$?
login=
[ "$code" -eq 0 ] || give_up "login ended with $code" "$work/login" "$work/login.err"
check 'login ends with' 0 "$code"
check 'status ends with' 0 "$(exit_code onegrant status --json)"

# The clock is the event here: the session ends at the second that it names itself.
expire() {
    onegrant status --json >"$work/status" 2>"$work/stderr" </dev/null || true
    has_member expires_at "$work/status" || give_up 'status --json names no expires_at' "$work/status" "$work/stderr"
    local expires_at
    expires_at=$(cat "$work/member")
    is_over() { [ "$(date +%s)" -gt "$expires_at" ]; }
    wait_until $((lifetime_seconds * 2)) is_over || give_up "the session does not expire before $expires_at"
}

# Starts the processes at one instant, when the gate opens, and checks what they print.
round() { # NAME WANTED_REFRESHES
    local number pids=() good=0
    rm -rf "$work/round"
    mkdir "$work/round"
    mkfifo "$work/round/gate"
    for ((number = 0; number < processes; number++)); do
        (
            read -r _ <"$work/round/gate" || true
            exec timeout "$limit_seconds" "$ONEGRANT" token
        ) >"$work/round/out.$number" 2>"$work/round/err.$number" </dev/null &
        pids+=($!)
    done
    # Opening the gate lets in all who wait for it, and closing it ends their reading.
    exec 9<>"$work/round/gate"
    for ((number = 0; number < processes; number++)); do echo >&9; done
    for pid in "${pids[@]}"; do
        if wait "$pid"; then good=$((good + 1)); fi
    done
    exec 9>&-
    check "$1: processes that ended with 0" "$processes" "$good"
    check "$1: tokens printed" "$processes" "$(cat "$work"/round/out.* | grep -c . || true)"
    check "$1: different tokens" 1 "$(cat "$work"/round/out.* | sort -u | grep -c . || true)"
    check "$1: refresh requests at the server so far" "$2" "$(refreshes)"
    if [ "$good" -ne "$processes" ]; then
        sort "$work"/round/err.* | uniq -c | sort -rn | head -n 5
    fi
}
alive() { # NAME
    check "$1: whoami ends with" 0 "$(exit_code onegrant whoami --json)"
    check "$1: whoami says" alice "$(member sub <"$work/stdout" || true)"
}

step "wait for the expiry, then start $processes processes at once"
expire
round 'first round' '1 ok'
alive 'first round'

step 'is the session alive? the next expiry, the next refresh'
expire
before=$(refreshes | sed 's/ .*//')
round 'second round' "$((before + 1)) ok"
alive 'second round'

step 'the same by claims alone, without any lock'
expire
before=$(refreshes | sed 's/ .*//')
ONEGRANT_LOCK=claim round 'claims alone' "$((before + 1)) ok"
alive 'claims alone'

step 'log out'
BEARER=$(onegrant token </dev/null) || give_up 'token'
export BEARER
member refresh_token <"$work/home/default.json" >"$work/refresh_token" || give_up 'no refresh token is stored'
check 'userinfo before logout' 200 "$(http "$issuer/me" | cut -c 1-3)"
check 'logout ends with' 0 "$(exit_code onegrant logout)"
cat "$work/stdout" "$work/stderr"
says_revoked() { grep -qiw revoked "$work/stdout" "$work/stderr" && ! grep -qiwE 'not|nothing|failed' "$work/stdout" "$work/stderr"; }
check 'logout says revoked' yes "$(says_revoked && echo yes || echo no)"
check 'the document is' gone "$([ -e "$work/home/default.json" ] && echo there || echo gone)"
check 'token ends with' 3 "$(exit_code onegrant token)"
check 'userinfo after logout' 401 "$(http "$issuer/me" | cut -c 1-3)"
unset BEARER
printf 'grant_type=refresh_token&client_id=onegrant&refresh_token=%s' "$(cat "$work/refresh_token")" >"$work/body"
check 'the revoked refresh token is' '400 invalid_grant' \
    "$(http "$issuer/token" POST <"$work/body" | sed -n 's/^\(...\) .*"error":"\([a-z_]*\)".*/\1 \2/p')"

finish
