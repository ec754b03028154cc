# What the scripts of .ci share. Each sources it, runs one binary ($ONEGRANT, or a release build) against servers on loopback in
# a temporary directory ($work), and removes that together with every process that it started.
#
#   begin PROGRAM...          sets up
#   check WHAT WANTED FOUND   one line, counted
#   skip WHAT                 one line, counted: this machine cannot try it
#   finish                    "N passed, N failed, N skipped"
#
# shellcheck shell=bash

limit_seconds=60 # for one command
passed=0
failed=0
skipped=0
profile=default
process=0 # the number of one of several that run `together`
repository=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
fixtures=$repository/fixtures

# Builds one executable of this repository and prints its path. cargo reports it, so any target directory works.
executable() { # NAME CARGO_OPTION...
    (cd "$repository" && env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_RUSTFLAGS -u CARGO_BUILD_TARGET \
        cargo build --quiet --locked --message-format=json-render-diagnostics "${@:2}") |
        jq -r --arg name "$1" 'select(.target.name? == $name and .executable).executable'
}

make_work() {
    work=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
}
begin() { # PROGRAM...
    local variable
    make_work
    need jq command -v jq
    for variable; do need "$variable" command -v "$variable"; done
    ONEGRANT=$(realpath "${ONEGRANT:-$(executable onegrant --release --bin onegrant)}")
    [ -x "$ONEGRANT" ] || give_up "$ONEGRANT is not a program"
    # No setting of the caller has an effect here.
    for variable in $(compgen -e); do
        case $variable in ONEGRANT_* | [Hh][Tt][Tt][Pp]*_[Pp][Rr][Oo][Xx][Yy] | ALL_PROXY | all_proxy) unset "$variable" ;; esac
    done
    mkdir "$work/home"
    export ONEGRANT_HOME=$work/home
}
clean_up() {
    # shellcheck disable=SC2046 # words
    kill $(jobs -rp) 2>/dev/null || true
    wait
    rm -rf "$work"
}

# Installs a Debian package unless the test succeeds. One script at a time, because several run side by side.
need() { # PACKAGE TEST...
    local root=()
    if "${@:2}" >/dev/null 2>&1; then return; fi
    [ "$(id -u)" = 0 ] || root=(sudo -n)
    echo "apt-get install $1"
    (
        exec >"$work/apt" 2>&1 8>>"${TMPDIR:-/tmp}/onegrant-ci.apt"
        flock -w 600 8 && "${root[@]}" timeout 300 apt-get update -qq &&
            "${root[@]}" env DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends "$1" && "${@:2}"
    ) || give_up "$1 cannot be installed" "$work/apt"
}
# A Python with the given packages below $work/venv. pip keeps what it downloads in its own cache.
python_packages() { # PIP_ARGUMENT...
    need python3 command -v python3
    need python3-venv python3 -c 'import ensurepip, venv'
    {
        python3 -m venv "$work/venv" &&
            timeout 300 "$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$@"
    } >"$work/pip" 2>&1 </dev/null || give_up 'pip install' "$work/pip"
}

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }
finish() {
    printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    exit $((failed > 0))
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
    tail -n 20 "${@:2}" 2>/dev/null </dev/null || true
    finish
}
# The words that run a command with a loopback of its own, where nothing else is. None if the system does not allow it.
own_loopback() {
    own=(unshare --net -- sh -c 'ip link set lo up && exec "$@"' sh)
    "${own[@]}" true 2>/dev/null || own=()
}
yes_or_no() { if "$@"; then echo yes; else echo no; fi; } # COMMAND...
wait_until() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    until "${@:2}"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

onegrant() { timeout "$limit_seconds" "$ONEGRANT" ${profile:+--profile "$profile"} "$@"; }
# As on a machine of its own: a home that no other process of the script uses.
on() { # HOST COMMAND...
    env ONEGRANT_HOME="$work/hosts/$1" "${@:2}"
}
# Checks the exit code of a command, and shows its stderr if that is another one.
ends_with() { # WHAT WANTED COMMAND...
    local code=0
    ("${@:3}") >"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
    check "$1 ends with" "$2" "$code"
    [ "$code" = "$2" ] || sed 's/^/      /' "$work/stderr"
}
# The same for a command that fails for this reason and no other.
refused() { # WHAT WANTED_CODE REASON COMMAND...
    ends_with "$1" "$2" "${@:4}"
    names_reason "$1" "$3" "$work/stderr"
}
names_reason() { # WHAT REASON FILE
    check "$1: the message names" "$2" "$(grep -ow -m 1 -- "$2" "$3" | head -n 1 || true)"
}
# Lines on stdin, counted: "2 invalid_grant, 1 ok".
tally() { sort | uniq -c | awk '{ print $1, $2 }' | paste -sd , | sed 's/,/, /g' | grep . || echo none; }
waits_for() { # WHAT WANTED PROCESS
    local code=0
    wait "$3" || code=$?
    check "$1 ends with" "$2" "$code"
}

# The first member of that name, at any depth, of the JSON objects on stdin. Text that is not JSON has none.
member() { # NAME
    jq -R -n -r --arg name "$1" '
        def found: first(.. | objects | select(has($name))[$name]);
        [inputs] | (try (join("\n") | fromjson | found) catch null) // first(.[] | (try fromjson catch empty) | found)
        | select(. != null) | if type == "object" or type == "array" then tojson else . end' | grep .
}
has_member() { [ -s "$2" ] && member "$1" <"$2" >"$work/member"; } # NAME FILE
stored() { member "$1" <"$work/home/$profile.json" 2>/dev/null || echo none; } # NAME

change() { # PROFILE FILTER
    jq -c "$2" "$ONEGRANT_HOME/$1.json" >"$work/document"
    chmod 600 "$work/document"
    mv "$work/document" "$ONEGRANT_HOME/$1.json"
}
# What makes an access token that has expired of the stored one. For jq.
as_expired='.session.expires_at = 1000000000 | .session.obtained_at = 999990000'
# A block of a page, by what is behind its language.
block() { # PAGE NAME
    awk -v name="$2" '/^```/ { wanted = substr($0, index($0, " ") + 1) == name; next } wanted' "$repository/docs/$1" | grep . ||
        { echo "docs/$1 has no block $2" >&2; return 1; }
}

# Starts a server that prints a JSON object with `issuer` when it is ready; some serve until stdin ends, so it stays open. Sets
# `issuer`, `server` (its name) and `$!`. What the server prints is in $work/NAME.json, its log in $work/NAME.log.
serve() { # NAME COMMAND...
    server=$1
    mkfifo "$work/$1.stdin"
    "${@:2}" >"$work/$1.json" 2>"$work/$1.log" <>"$work/$1.stdin" &
    wait_until "$limit_seconds" has_member issuer "$work/$1.json" || give_up "$1 did not start" "$work/$1.json" "$work/$1.log"
    issuer=$(cat "$work/member")
    echo "$1: $issuer"
}
# The server of the tests. It ends the family of a refresh token that is spent twice, unless an option says otherwise.
authorization_server() { # NAME OPTION...
    : "${authorization_server:=$(executable authorization_server --example authorization_server)}"
    serve "$1" "$authorization_server" --auto-approve --print-requests "${@:2}"
    login_options=("$issuer" --client-id "$(member client_id <"$work/$1.json")" --device)
}
# How many requests the token endpoint of the current server has had: all of them since a mark, which logins precede.
requests() { grep -c '^POST /token ' "$work/$server.log" || true; }
mark() { marked=$(requests); }
check_refreshes() { check "$1: refreshes" "$2" $(($(requests) - marked)); } # WHAT WANTED

# Runs a command several times at the same instant, when the gate opens. $process is the number of each. Sets
# `failures`; what each prints is in $work/together.
together() { # PROCESSES COMMAND...
    local pid pids=() gate process
    rm -rf "$work/together"
    mkdir "$work/together"
    mkfifo "$work/together/gate"
    for ((process = 1; process <= $1; process++)); do
        (
            read -r _ <"$work/together/gate" || true
            "${@:2}"
        ) >"$work/together/out.$process" 2>"$work/together/err.$process" </dev/null &
        pids+=($!)
    done
    # Opening the gate lets in every process that waits for it; closing it ends their reading.
    exec {gate}<>"$work/together/gate"
    for pid in "${pids[@]}"; do echo >&"$gate"; done
    failures=0
    for pid in "${pids[@]}"; do wait "$pid" || failures=$((failures + 1)); done
    exec {gate}>&-
    [ "$failures" = 0 ] || sort "$work"/together/err.* | uniq -c | sort -rn | head -n 5
}
# The same, where every process has to print the same token.
one_token() { # WHAT PROCESSES COMMAND...
    together "${@:2}"
    check "$1: processes that failed" 0 "$failures"
    check "$1: tokens printed" "$2" "$(cat "$work"/together/out.* | grep -c . || true)"
    check "$1: different tokens" 1 "$(sort -u "$work"/together/out.* | grep -c . || true)"
}
