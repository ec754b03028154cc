# A real etcd of three members on loopback, and a grant in it; sourced after checks.sh by the scripts about etcd.
#
# shellcheck shell=bash

key=$(printf /grants/default | base64)
members=()        # their process identifiers
member_options=() # of etcd
killed=           # the member that was killed last
first_port=$((20000 + RANDOM % 10000))

peer() { echo "http://127.0.0.1:$((first_port + 10 + $1))"; }  # INDEX
client() { echo "127.0.0.1:$((first_port + $1))"; }            # INDEX
start_etcd() { # NAME OPTION...: sets $!
    etcd --name "$1" --data-dir "$work/$1" --unsafe-no-fsync --initial-cluster-state new "${@:2}" >>"$work/$1.log" 2>&1 </dev/null &
}
start_member() { # INDEX
    start_etcd "member-$1" "${member_options[@]}" \
        --listen-client-urls "http://$(client "$1")" --advertise-client-urls "http://$(client "$1")" \
        --listen-peer-urls "$(peer "$1")" --initial-advertise-peer-urls "$(peer "$1")" \
        --initial-cluster "member-0=$(peer 0),member-1=$(peer 1),member-2=$(peer 2)"
    members[$1]=$!
}
kill_member() { # INDEX
    kill -KILL "${members[$1]}"
    wait "${members[$1]}" 2>/dev/null || true
}
is_healthy() { [ "$(curl -s -m 1 "http://$(client "$1")/health")" = '{"health":"true"}' ]; } # INDEX
healthy() { # INDEX...
    local i
    for i; do wait_until 20 is_healthy "$i" || give_up "member $i is not healthy" "$work/member-$i.log"; done
}
ask_member() { curl -s -m 2 -d "$3" "http://$(client "$1")/v3/$2"; } # INDEX PATH BODY
leader() {
    local i
    for i in 0 1 2; do
        ask_member $i maintenance/status '{}' | jq '.leader and .leader == .header.member_id' | grep -qx true && echo $i && return
    done
    return 1
}
has_leader() { leader >"$work/leader"; }
kill_leader() {
    wait_until 20 has_leader || give_up 'there is no leader'
    killed=$(cat "$work/leader")
    kill_member "$killed"
}
restart() { # INDEX...
    local i
    for i; do start_member "$i"; done
    healthy 0 1 2
}

# The document, from any member that runs. A cluster that elects a leader has none for a moment.
read_value() {
    local i
    for i in 0 1 2; do ask_member $i kv/range "{\"key\":\"$key\"}" | jq -r '.kvs[0].value // empty' | grep . && return; done
    return 1
}
value() {
    wait_until 20 read_value >"$work/value" || return 1
    tail -n 1 "$work/value" | base64 -d
}
stored() { value | member "$1" || echo none; } # NAME
# The document says that the access token has expired.
expire() {
    local text
    text=$(value | jq -c '.session.expires_at = 1000000000 | .session.obtained_at = 999990000' | base64 -w 0)
    ask_member "${1:-0}" kv/put "{\"key\":\"$key\",\"value\":\"$text\"}" >/dev/null
    mark
}
is_claimed() { value | grep -q '"attempts"'; }
claimed() { wait_until 10 is_claimed || give_up 'no process has claimed'; }
check_no_records() { check "$1: a record is left" no "$(yes_or_no is_claimed)"; } # WHAT

# The worker of a process on a host.
worker_on() { # REGULAR_EXPRESSION
    local process
    for process in $(grep -lzx -- '--exchange-for-caller' /proc/[0-9]*/cmdline 2>/dev/null); do
        process=${process%/cmdline}
        if grep -qzx "ONEGRANT_HOME=$work/hosts/$1" "$process/environ" 2>/dev/null; then echo "${process#/proc/}"; fi
    done
}

begin_with_etcd() { # PROGRAM...
    begin curl "$@"
    need etcd-server etcd --version
    step 'three members'
    for i in 0 1 2; do start_member $i; done
    healthy 0 1 2
    ONEGRANT_STORE=etcd://$(client 0),$(client 1),$(client 2)/grants
    export ONEGRANT_STORE
}
# A new authorization server in place of the last one, and a login at it.
grant_at() { # NAME OPTION...
    [ -z "${grantor:-}" ] || kill "$grantor"
    authorization_server "$@"
    grantor=$!
    ends_with "login ($1)" 0 onegrant login "${login_options[@]}"
}
