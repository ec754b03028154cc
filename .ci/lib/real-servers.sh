# What the scripts against real servers share; sourced by them. One of them runs one binary ($ONEGRANT) against servers on
# loopback, in a temporary directory that goes away with all that was started.
#
#   begin PROGRAM...        the directory ($work), and nothing of the caller's environment
#   check WHAT WANTED FOUND one line, counted
#   skip WHAT               one line, counted: what could not be tried here
#   finish                  "N passed, N failed, N skipped"
#
# shellcheck shell=bash

limit_seconds=60 # for one command
passed=0
failed=0
skipped=0
servers=()
login=     # the one that a person is asked by
forgotten= # the one that nobody answers
profile=default
fixtures=$repository/fixtures

begin() { # PROGRAM...
    : "${ONEGRANT:?the path of the binary}"
    ONEGRANT=$(cd "$(dirname "$ONEGRANT")" && pwd)/$(basename "$ONEGRANT")
    [ -x "$ONEGRANT" ] || { echo "$ONEGRANT is no program" >&2; exit 2; }
    local program variable
    for program in node timeout "$@"; do
        command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 2; }
    done
    work=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    # Nothing of the caller's: neither his profile nor his store, lock mode or proxy.
    for variable in $(compgen -e); do
        case $variable in ONEGRANT_* | [Hh][Tt][Tt][Pp]*_[Pp][Rr][Oo][Xx][Yy] | ALL_PROXY | all_proxy) unset "$variable" ;; esac
    done
    mkdir "$work/home"
    export ONEGRANT_HOME=$work/home
}
clean_up() {
    local child
    for child in "${servers[@]}" $login $forgotten; do kill "$child" 2>/dev/null || true; done
    for child in "${servers[@]}" $login $forgotten; do wait "$child" 2>/dev/null || true; done
    rm -rf "$work"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}
# Installs a package of the system unless the test succeeds. One script at a time: the others run side by side with it.
need() { # PACKAGE TEST...
    local package=$1
    shift
    if "$@" >/dev/null 2>&1; then return; fi
    echo "apt-get install $package"
    exec 8>>"${TMPDIR:-/tmp}/onegrant-ci.apt"
    flock -w 600 8 &&
        as_root timeout 300 apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive timeout 600 \
            apt-get install -y -qq --no-install-recommends "$package" >"$work/apt" 2>&1 &&
        "$@" >/dev/null || give_up "$package cannot be installed" "$work/apt"
    exec 8>&-
}

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }
finish() {
    printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" -eq 0 ] || exit 1
    exit 0
}
check() { # WHAT WANTED FOUND
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
        printf 'ok    %s: %s\n' "$1" "$3"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s: %s, wanted %s\n' "$1" "$3" "$2"
    fi
}
skip() { # WHAT
    skipped=$((skipped + 1))
    printf 'SKIP  %s\n' "$1"
}
give_up() { # WHAT FILE...
    failed=$((failed + 1))
    printf 'FAIL  %s\n' "$1"
    shift
    tail -n 20 "$@" 2>/dev/null || true
    finish
}
yes_or_no() { if "$@"; then echo yes; else echo no; fi; } # COMMAND...
wait_until() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

onegrant() { timeout "$limit_seconds" "$ONEGRANT" --profile "$profile" "$@"; }
exit_code() { # COMMAND...
    local code=0
    "$@" >"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
    printf '%s' "$code"
}
# The command's exit code; what it said on stderr stands below where that was another.
ends_with() { # WHAT WANTED COMMAND...
    local what=$1 wanted=$2 code
    shift 2
    code=$(exit_code "$@")
    check "$what ends with" "$wanted" "$code"
    [ "$code" = "$wanted" ] || sed 's/^/      /' "$work/stderr"
}

# The same, and the message names the server's reason: a command that failed for another one has not met it.
refused() { # WHAT WANTED_CODE REASON COMMAND...
    local what=$1 reason=$3
    ends_with "$1" "$2" "${@:4}"
    names_reason "$what" "$reason" "$work/stderr"
}
names_reason() { # WHAT REASON FILE
    check "$1: the message names" "$2" "$(grep -ow -m 1 -- "$2" "$3" | head -n 1 || true)"
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
stored() { member "$1" <"$work/home/$profile.json" 2>/dev/null || echo none; } # NAME
http() { # URL [POST, the body on stdin]: status and body
    node -e '
        const [, url, method] = process.argv;
        const body = method === "POST" ? require("fs").readFileSync(0, "utf8").trim() : undefined;
        const headers = process.env.BEARER ? { authorization: `Bearer ${process.env.BEARER}` } : {};
        if (body !== undefined) headers["content-type"] = "application/x-www-form-urlencoded";
        fetch(url, { method, body, headers, signal: AbortSignal.timeout(10000) })
            .then(async (answer) => console.log(answer.status, (await answer.text()).trim()));
    ' "$1" "${2:-GET}"
}

# Starts a server that says where it is as JSON on stdout, and sets `issuer`.
serve() { # NAME COMMAND...
    local name=$1
    shift
    "$@" >"$work/$name.json" 2>"$work/$name.log" </dev/null &
    servers+=($!)
    wait_until 30 has_member issuer "$work/$name.json" || give_up "$name did not start" "$work/$name.json" "$work/$name.log"
    issuer=$(cat "$work/member")
    echo "$name: $issuer"
}
install_oidc_provider() {
    mkdir "$work/server"
    cp "$fixtures"/oidc_provider/{package.json,package-lock.json,server.mjs} "$work/server"
    (cd "$work/server" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
        >"$work/npm" 2>&1 </dev/null || give_up 'npm ci' "$work/npm"
}
# Requests of a grant type at the server `issuer`, by what they were answered: "1 ok, 2 invalid_grant".
answered() { # GRANT_TYPE
    http "$issuer/requests" | sed '1s/^200 //' | node -e '
        const lines = require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
        const counts = {};
        for (const { values, status, error } of lines.map((line) => JSON.parse(line))) {
            if (values.grant_type?.split(":").pop() !== process.argv[1]) continue;
            const result = error ?? (status === 200 ? "ok" : status);
            counts[result] = (counts[result] ?? 0) + 1;
        }
        console.log(Object.entries(counts).map(([result, number]) => `${number} ${result}`).join(", ") || "none");
    ' "$1"
}
answered_ok() { answered "$1" | sed -n 's/\([0-9]*\) ok.*/\1/p' | grep . || echo 0; } # GRANT_TYPE

acts() { # approve|deny|nobody|chromium ADDRESS
    case $1 in
        nobody) ;;
        chromium) timeout "$limit_seconds" node "$fixtures/real_servers/browser.mjs" "$2" "$work/browser" ;;
        *) timeout "$limit_seconds" node "$fixtures/real_servers/person.mjs" "$1" "$2" ;;
    esac
}
# Logs a person in or not: starts the command, waits for the address that it shows as JSON, does what a person does there,
# and waits for the end. Sets `code`.
person_logs_in() { # approve|deny|nobody|chromium MEMBER LOGIN_OPTION...
    local decision=$1 wanted=$2 address
    shift 2
    timeout "$limit_seconds" "$ONEGRANT" --profile "$profile" login "$@" --json \
        >"$work/login.$profile" 2>"$work/login.$profile.err" </dev/null &
    login=$!
    asks() { has_member "$wanted" "$work/login.$profile"; }
    asks_or_has_ended() { asks || ! kill -0 "$login" 2>/dev/null; }
    if wait_until 30 asks_or_has_ended && asks; then
        address=$(cat "$work/member")
        acts "$decision" "$address" </dev/null 2>&1 | sed 's/^/      /' || true
    else
        echo "      login asks for nothing"
    fi
    code=0
    wait "$login" || code=$?
    login=
}
logs_in() { # WHAT WANTED_CODE DECISION MEMBER LOGIN_OPTION...
    local what=$1 wanted=$2
    shift 2
    person_logs_in "$@"
    check "$what: login ends with" "$wanted" "$code"
    [ "$code" = "$wanted" ] || sed 's/^/      /' "$work/login.$profile" "$work/login.$profile.err"
}
by_device() { # WHAT WANTED_CODE DECISION LOGIN_OPTION...
    local what=$1 wanted=$2 decision=$3
    shift 3
    logs_in "$what" "$wanted" "$decision" verification_uri_complete "$@" --device
}
# A device login that nobody answers, beside all else that happens; to be waited for at the end.
is_forgotten() { # LOGIN_OPTION...
    timeout "$limit_seconds" "$ONEGRANT" --profile forgotten login "$@" --device --json \
        >"$work/login.forgotten" 2>"$work/login.forgotten.err" </dev/null &
    forgotten=$!
}
forgotten_ends_with() { # WHAT WANTED_CODE REASON
    local code=0
    wait "$forgotten" || code=$?
    forgotten=
    check "$1: login ends with" "$2" "$code"
    names_reason "$1" "$3" "$work/login.forgotten.err"
}
# A login that is refused before or after a person was asked, and why.
refuses() { # REASON by_device|by_browser WHAT WANTED_CODE DECISION LOGIN_OPTION...
    "${@:2}"
    names_reason "$3" "$1" "$work/login.$profile.err"
}
by_browser() { # WHAT WANTED_CODE DECISION LOGIN_OPTION...
    local what=$1 wanted=$2 decision=$3
    shift 3
    logs_in "$what" "$wanted" "$decision" authorization_uri "$@" --browser --no-open
}

# Waits until the access token has expired, and so many seconds more. The clock is the event here: the session ends at the
# second that it names itself.
expire() { # [SECONDS]
    onegrant status --json >"$work/status" 2>"$work/stderr" </dev/null || true
    if ! has_member expires_at "$work/status"; then
        check 'status --json names the end of the session' yes no
        return
    fi
    local over_at=$(($(cat "$work/member") + ${1:-0}))
    is_over() { [ "$(date +%s)" -gt "$over_at" ]; }
    wait_until $((over_at - $(date +%s) + 10)) is_over || give_up "the clock does not reach $over_at"
}

# A refresh token of the confidential client that nobody has issued, with its secret and with another one.
refuses_imports() {
    imports() { echo unknown | onegrant login "$issuer" --refresh-token-stdin --client-id confidential --client-secret-file "$1"; }
    refused 'refresh token, wrong secret' 2 invalid_client imports "$work/wrong-secret"
    refused 'refresh token, unknown' 3 invalid_grant imports "$work/secret"
}

# A session whose refresh token ends soon: one request finds out, and nobody asks again.
refuses_an_expired_refresh_token() { # LOGIN_OPTION...
    profile=expired-token
    by_device 'a short session' 0 approve "$@"
    expire 3
    refused 'an expired refresh token: token' 3 invalid_grant onegrant token
    ends_with 'once more: token' 3 onegrant token
    # Asked once more before the verdict, and not again.
    check 'an expired refresh token: requests' '2 invalid_grant' "$(answered refresh_token)"
}

# Starts the processes at one instant, when the gate opens, and checks what they print and what they cost the server.
round() { # NAME PROCESSES GRANT_TYPE WANTED_ANSWERS
    local number pids=() good=0 processes=$2
    rm -rf "$work/round"
    mkdir "$work/round"
    mkfifo "$work/round/gate"
    for ((number = 0; number < processes; number++)); do
        (
            read -r _ <"$work/round/gate" || true
            exec timeout "$limit_seconds" "$ONEGRANT" --profile "$profile" token
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
    check "$1: $3 requests at the server so far" "$4" "$(answered "$3")"
    if [ "$good" -ne "$processes" ]; then
        sort "$work"/round/err.* | uniq -c | sort -rn | head -n 5
    fi
}
alive() { # NAME
    ends_with "$1: whoami" 0 onegrant whoami --json
    check "$1: whoami says" alice "$(member sub <"$work/stdout" || true)"
}
# A logout revokes, deletes, and leaves nothing that the server would still take.
logs_out() { # TOKEN_ENDPOINT USERINFO_ENDPOINT CLIENT_ID
    local refresh_token
    BEARER=$(onegrant token 2>/dev/null </dev/null || true)
    export BEARER
    refresh_token=$(stored refresh_token)
    check 'userinfo before logout' 200 "$(http "$2" | cut -c 1-3)"
    revokes
    check 'userinfo after logout' 401 "$(http "$2" | cut -c 1-3)"
    unset BEARER
    printf 'grant_type=refresh_token&client_id=%s&refresh_token=%s' "$3" "$refresh_token" >"$work/body"
    check 'the revoked refresh token is' '400 invalid_grant' \
        "$(http "$1" POST <"$work/body" | sed -n 's/^\(...\) .*"error": *"\([a-z_]*\)".*/\1 \2/p')"
}
revokes() {
    says_revoked() { grep -qiw revoked "$work/stdout" "$work/stderr" && ! grep -qiwE 'not|nothing|failed' "$work/stdout" "$work/stderr"; }
    ends_with 'logout' 0 onegrant logout
    check 'logout says revoked' yes "$(yes_or_no says_revoked)"
    check 'the document is' gone "$([ -e "$work/home/$profile.json" ] && echo there || echo gone)"
    ends_with 'token after logout' 3 onegrant token
}

# Every request of this script's servers against the RFCs' parameter lists.
check_requests() { # SERVER_NAME KIND...
    local name=$1
    shift
    http "$(member issuer <"$work/$name.json")/requests" | sed '1s/^200 //' >"$work/$name.requests"
    local code=0
    node "$fixtures/real_servers/check.mjs" "$work/$name.requests" "$@" || code=$?
    check "$name: all requests are as the RFCs say" 0 "$code"
}
check_the_checker() {
    local code=0
    node "$fixtures/real_servers/check.mjs" --self-test || code=$?
    check 'the checker refuses what is wrong' 0 "$code"
}
