# What a grant does in a store that is no directory; sourced after checks.sh by the scripts about etcd, Kubernetes and keyrings.
# They define `value`, which prints the document, and `put_value`, which stores the one on stdin.
#
# shellcheck shell=bash

stored() { value | member "$1" || echo none; } # NAME
# The document says that the access token has expired.
expire() {
    value | jq -c "$as_expired" | put_value ||
        give_up 'the document cannot be changed'
    mark
}
is_claimed() { value | grep -q '"attempts"'; }
claimed() { wait_until 10 is_claimed || give_up 'no process has claimed'; }
check_no_records() { check "$1: a record is left" no "$(yes_or_no is_claimed)"; } # WHAT
# What the records mean: a line for each record that is about the stored refresh token, and for each owner that still runs.
# A commit and an adoption keep the claims that are later than their own, because those may be live ("Numbers" in
# docs/design.md). So a kill may leave a record without such a line, until the next claim.
meanings() {
    local digest number about pid began
    value >"$work/records"
    digest=$(member refresh_token <"$work/records" | tr -d '\n' | sha256sum | cut -d ' ' -f 1)
    jq -r '.attempts[]? | [.number, .key] + (.record | fromjson | .by | [.pid, .start_time]) | @tsv' <"$work/records" >"$work/left" ||
        echo 'a record cannot be read'
    while read -r number about pid began; do
        [ "$about" != "$digest" ] || echo "record $number is about the stored refresh token"
        [ "$(start_time "$pid")" != "$began" ] || echo "the owner of record $number runs"
    done <"$work/left"
}
# As in a record; nothing for a process that has ended.
start_time() { sed -n 's/.*) [^ZX] //p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 19; } # PROCESS

# A new authorization server in place of the last one, and a login there.
grant_at() { # NAME OPTION...
    [ -z "${grantor:-}" ] || kill "$grantor"
    authorization_server "$@"
    grantor=$!
    ends_with "login ($1)" 0 onegrant login "${login_options[@]}"
}
token_on() { on "$1" timeout "$limit_seconds" "$ONEGRANT" "${@:2}" token; } # HOST OPTION...
# Starts the same: sets `pid`. What it prints is in $work/HOST and $work/HOST.err.
starts() { # HOST OPTION...
    token_on "$@" >"$work/$1" 2>"$work/$1.err" </dev/null &
    pid=$!
}
one_of_crowd() { token_on "$process"; }
crowd_refreshes_once() { # WHAT PROCESSES
    expire
    one_token "$1" "$2" one_of_crowd
    check_refreshes "$1" 1
    check "$1: the token is the stored one" "$(stored access_token)" "$(cat "$work/together/out.1")"
    check_no_records "$1"
}
# The worker of a process on a host.
worker_on() { # REGULAR_EXPRESSION
    local process
    for process in $(grep -lzx -- '--exchange-for-caller' /proc/[0-9]*/cmdline 2>/dev/null); do
        process=${process%/cmdline}
        if grep -qzx "ONEGRANT_HOME=$work/hosts/$1" "$process/environ" 2>/dev/null; then echo "${process#/proc/}"; fi
    done
}

# The store stops and does not take the answer of a process. The next process on this machine stores it. Sets `code`, with which
# the first one ends.
answer_is_stored_later() { # HOST TIMEOUT_SECONDS DIRECTORY STOP RESTART
    local answers=$work/hosts/$1/$3
    code=0
    expire
    starts "$1" --timeout "$2"
    claimed
    "$4"
    wait "$pid" || code=$?
    echo "      $1 ends with $code: $(cat "$work/$1.err")"
    check 'its answer is on its machine' 600 "$(stat -c %a "$answers/"~answer.* 2>/dev/null)"
    "$5"
    ends_with 'the next process there' 0 token_on "$1"
    check 'its token is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
    [ "$code" != 0 ] || check 'both print the same token' "$(cat "$work/$1")" "$(cat "$work/stdout")"
    check_refreshes "$1 and next" 1
    check 'what is left on the machine' none "$(ls "$answers/"~answer.* 2>/dev/null || echo none)"
    check_no_records "$1 and next"
}
