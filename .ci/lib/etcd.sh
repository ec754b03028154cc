# A real etcd of three members on loopback, and a grant in it; sourced after cells.sh by the scripts about etcd.
#
# shellcheck shell=bash

key=$(printf /grants/default | base64)
members=()        # their process identifiers
member_options=() # of etcd
killed=           # the member that was killed last
first_port=$((20000 + $$ % 400 * 25)) # below the ports that the system chooses, and not those of another script that runs now
is_taken() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT
one_is_taken() {
    local offset
    for offset in 0 1 2 10 11 12 20 21; do if is_taken $((first_port + offset)); then return; fi; done
    return 1
}
while one_is_taken; do first_port=$((first_port + 25)); done

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
# A cluster that elects a leader takes no value for a moment, or does not say so in time: the same member is asked again, so
# no earlier request can come after the last one.
put_value() { # stdin
    local body
    body="{\"key\":\"$key\",\"value\":\"$(base64 -w 0)\"}"
    is_put() { ask_member 0 kv/put "$body" | grep -q '"revision"'; }
    wait_until 20 is_put
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
