# A real etcd of three members on loopback, and a grant in it; sourced after real-servers.sh by the scripts about etcd.
#
# shellcheck shell=bash

key=/grants/default
names=(a b c)
members=() # their process identifiers
member_options=()
killed=
first_port=$((20000 + RANDOM % 10000))

peer() { echo "http://127.0.0.1:$((first_port + 10 + $1))"; }
client() { echo "127.0.0.1:$((first_port + $1))"; }
cluster=
for i in 0 1 2; do cluster+=${cluster:+,}${names[i]}=$(peer $i); done

start_member() { # INDEX
    etcd --name "${names[$1]}" --data-dir "$work/${names[$1]}" --unsafe-no-fsync "${member_options[@]}" \
        --listen-client-urls "http://$(client "$1")" --advertise-client-urls "http://$(client "$1")" \
        --listen-peer-urls "$(peer "$1")" --initial-advertise-peer-urls "$(peer "$1")" \
        --initial-cluster "$cluster" --initial-cluster-state new >>"$work/${names[$1]}.log" 2>&1 </dev/null &
    members[$1]=$!
    servers+=($!)
}
kill_member() { # INDEX
    kill -KILL "${members[$1]}"
    wait "${members[$1]}" 2>/dev/null || true
}
is_healthy() { # INDEX
    [ "$(curl -s -m 1 "http://$(client "$1")/health")" = '{"health":"true"}' ]
}
healthy() {
    local i
    for i in "$@"; do wait_until 20 is_healthy "$i" || give_up "member $i is not healthy" "$work/${names[i]}.log"; done
}
# One text of an answer of etcd's gateway, which it writes without spaces: far quicker than `member`.
text_of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; } # NAME
leader() {
    local i status wanted
    for i in 0 1 2; do
        status=$(curl -s -m 1 -X POST -d '{}' "http://$(client $i)/v3/maintenance/status") || continue
        wanted=$(text_of leader <<<"$status")
        [ -n "$wanted" ] && [ "$wanted" = "$(text_of member_id <<<"$status")" ] && { echo $i; return; }
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
    for i in "$@"; do start_member "$i"; done
    healthy 0 1 2
}

# The value, by a member that runs; a cluster that elects a leader has none for a moment.
value() {
    local i turn
    for turn in {1..20}; do
        for i in 0 1 2; do
            curl -s -m 2 -d "{\"key\":\"$(printf %s $key | base64)\"}" "http://$(client $i)/v3/kv/range" >"$work/range" &&
                grep -q '"value":' "$work/range" && text_of value <"$work/range" | base64 -d && return
        done
        sleep 0.2
    done
    return 1
}
stored() { value | member "$1" || echo none; } # NAME
# The access token has ended, as far as the document says.
expire() {
    local text
    text=$(value | sed 's/"expires_at":[0-9]*/"expires_at":1000000000/; s/"obtained_at":[0-9]*/"obtained_at":999990000/')
    curl -s -X POST -d "{\"key\":\"$(printf %s $key | base64)\",\"value\":\"$(printf %s "$text" | base64 -w 0)\"}" \
        "http://$(client "${1:-0}")/v3/kv/put" >/dev/null
    asked=$(asks)
}
# How many refreshes were asked for since.
asks() { grep -c '^POST /token ' "$work/as.err" || true; }
check_asked() { check "$1: refreshes" "$2" $(($(asks) - asked)); }
is_claimed() { value | grep -q '"attempts"'; }

authorization_server() { # OPTION...: a new one, and a login at it
    [ -z "${as:-}" ] || kill "$as"
    mkfifo "$work/stdin.$1"
    "$server" --auto-approve --print-requests "${@:2}" <"$work/stdin.$1" >"$work/as.out" 2>"$work/as.err" &
    as=$!
    servers+=("$as")
    exec 9>"$work/stdin.$1"
    wait_until 10 has_member issuer "$work/as.out" || give_up 'the authorization server did not start' "$work/as.err"
    ends_with "login ($1)" 0 onegrant login "$(member issuer <"$work/as.out")" --client-id "$(member client_id <"$work/as.out")" --device
}
on() { # HOST COMMAND...: as on a machine of its own
    env ONEGRANT_HOME="$work/hosts/$1" "${@:2}"
}

# What all of them begin with: three members, and the fixture server built.
begin_with_etcd() { # PROGRAM...
    begin curl node "$@"
    need etcd-server etcd --version
    server=$(cd "$repository" && cargo build --example authorization_server --message-format=json 2>/dev/null |
        sed -n 's/.*"name":"authorization_server".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -x "$server" ] || give_up 'the authorization server cannot be built'
    step 'three members'
    for i in 0 1 2; do start_member $i; done
    healthy 0 1 2
    ONEGRANT_STORE=etcd://$(client 0),$(client 1),$(client 2)/grants
    export ONEGRANT_STORE
}
# The workers of processes on these hosts, which spend in sessions of their own.
workers_on() { # REGULAR_EXPRESSION
    local process
    for process in $(grep -lzx -- '--exchange-for-caller' /proc/[0-9]*/cmdline 2>/dev/null); do
        process=${process%/cmdline}
        if grep -qzx "ONEGRANT_HOME=$work/hosts/$1" "$process/environ" 2>/dev/null; then echo "${process#/proc/}"; fi
    done
}
