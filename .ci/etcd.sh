#!/usr/bin/env bash
# Proves what a grant in a real etcd of three members promises to processes on machines of their own (each has its own home):
# one refresh for a crowd; no grant lost when the leader is killed before the claim, between claim and commit, or when the
# answer comes; nothing spent without a quorum; a late owner of a claim overwrites no newer session.
#
#   .ci/etcd.sh
#   MEASURE=yes .ci/etcd.sh    says how long the last of a crowd waits, too
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"
. "$repository/.ci/lib/cells.sh"
. "$repository/.ci/lib/etcd.sh"

crowd=100

begin_with_etcd openssl
grant_at quick
check 'the only profile' default "$(onegrant profiles)"
check 'the value is the document' 1 "$(stored version)"

step 'the behaviours of every store'
conformance() { cd "$repository" && ONEGRANT_ETCD_MEMBER=$(client 0) cargo test --test stores conformance -- --ignored; }
(conformance) >"$work/conformance" 2>&1 || give_up 'conformance' "$work/conformance"
check 'conformance' yes "$(yes_or_no grep -q '^test result: ok. [1-9]' "$work/conformance")"

step "$crowd processes at once"
crowd_refreshes_once crowd $crowd

step "$crowd processes at once, and the server answers after 300 ms"
grant_at delayed --delay 300
crowd_refreshes_once delayed $crowd

if [ -n "${MEASURE:-}" ]; then
    step 'how long the last of them waits, against what no client can save'
    median() { sort -n | awk '{line[NR] = $1} END {print line[int((NR + 1) / 2)]}'; }
    milliseconds() { for _ in {1..9}; do curl -s -o /dev/null -m 10 -w '%{time_total}\n' "$@" | awk '{print $1 * 1000}'; done | median; }
    took() { local began=${EPOCHREALTIME/./}; "$@" >&2; echo $(((${EPOCHREALTIME/./} - began) / 1000)); }
    # Reads, transactions and watches that all members were asked for.
    questions() {
        for i in 0 1 2; do curl -s -m 2 "http://$(client $i)/metrics"; done |
            awk '/^grpc_server_started_total\{grpc_method="(Range|Txn|Watch)"/ {sum += $NF} END {print sum}'
    }
    refresh=$(milliseconds -d 'grant_type=refresh_token&client_id=onegrant-fixture&refresh_token=none' "$(stored token_endpoint)")
    read=$(milliseconds -d "{\"key\":\"$key\"}" "http://$(client 0)/v3/kv/range")
    for turn in 1 2 3 4 5; do
        spawn=$(took together $crowd "$ONEGRANT" --version)
        expire
        before=$(questions)
        last=$(took one_token "measured $turn" $crowd one_of_crowd)
        awk "BEGIN {floor = $refresh + 2 * $read + $spawn; printf \"      %d ms of %d ms = refresh %.0f + 2 reads of %.1f + spawn %d: %.2f times; %d questions to etcd\\n\", \
            $last, floor, $refresh, $read, $spawn, $last / floor, $(($(questions) - before))}"
        check_refreshes "measured $turn" 1
    done
fi

step 'the leader is killed before the claim'
expire
kill_leader
ends_with 'token' 0 onegrant token
check_refreshes 'before the claim' 1
check 'the token is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
restart "$killed"

step 'the leader is killed between claim and commit, while others wait'
grant_at slow --delay 1500
expire
pids=()
for host in waiting-{1..5}; do
    starts "$host"
    pids+=("$pid")
done
claimed
kill_leader
for pid in "${pids[@]}"; do waits_for 'between: one of five' 0 "$pid"; done
check_refreshes between 1
check 'between: tokens' "$(stored access_token)" "$(sort -u "$work"/waiting-?)"
restart "$killed"

step 'the leader is killed when the answer comes, at four moments'
for moment in 1.40 1.48 1.50 1.52; do
    expire
    starts "at-$moment"
    claimed
    has_leader || give_up 'there is no leader'
    # The moment is the case; no event tells it.
    sleep "$moment"
    killed=$(cat "$work/leader")
    kill_member "$killed"
    waits_for "at $moment s: token" 0 "$pid"
    check_refreshes "at $moment s" 1
    check "at $moment s: the token is the stored one" "$(stored access_token)" "$(cat "$work/at-$moment")"
    restart "$killed"
done

step 'the quorum is lost: nothing is spent'
expire
kill_member 1
kill_member 2
ends_with 'token' 4 onegrant --timeout 3 token
check_refreshes 'without a quorum' 0
restart 1 2
ends_with 'token, with a quorum again' 0 onegrant token
check_refreshes 'with a quorum again' 1

step 'the quorum is lost after the refresh token is spent: the next process stores the answer'
# The quorum is lost long before the answer comes. The process tries to store it for eight seconds, within its deadline.
grant_at late --delay 5000
stop() { kill_member 1; kill_member 2; }
resume() { restart 1 2; }
answer_is_stored_later spender 16 '~etcd' stop resume
check 'the spender ends with' 0 "$code"

# Starts a process in a process group of its own, which has its number: sets `pid`. A function would run in a process between
# them.
starts_in_group() { # HOST
    env ONEGRANT_HOME="$work/hosts/$1" setsid "$ONEGRANT" --timeout 30 token >"$work/$1" 2>"$work/$1.err" </dev/null &
    pid=$!
}
has_claim() { # NUMBER
    is_in_the_value() { value | grep -q "\"number\":$1"; }
    wait_until 20 is_in_the_value "$1" || give_up "no process makes claim $1" "$work"/*.err
}
# Kills the process that was started last, and its worker.
is_killed() { # HOST
    local worker
    worker=$(worker_on "$1")
    [ -n "$worker" ] || give_up "$1 has no worker"
    kill -KILL -- "-$pid" "$worker"
    wait "$pid" 2>/dev/null || true
}

step 'the owner of a claim is stopped until the claim has ended, another process takes over, and the owner goes on'
grant_at patient --delay 2500 --replay grace --grace 60
owner_is_stopped() {
    expire
    old=$(stored access_token)
    starts owner --timeout 3
    owner=$pid
    claimed
    worker=$(worker_on owner)
    [ -n "$worker" ] || give_up 'the owner has no worker'
    kill -STOP "$worker"
}
owner_goes_on() {
    kill -CONT "$worker"
    wait "$owner" || true
    wait_until 20 test ! -e "/proc/$worker" || true
    check 'the owner still runs' no "$(yes_or_no test -e "/proc/$worker")"
}
owner_is_stopped
check 'the claim is open' yes "$(yes_or_no is_claimed)"
ends_with 'another process, after the end of the claim' 0 token_on taker --timeout 30
# The server gave the taker the owner's answer again. The next answer tells them apart.
ends_with 'the same process, refresh' 0 on taker "$ONEGRANT" refresh
newest=$(stored access_token)
owner_goes_on
check 'the newer session is stored' "$newest" "$(stored access_token)"
check_refreshes 'owner and taker' 3
check_no_records 'owner and taker'
ends_with 'refresh' 0 onegrant refresh

step 'the same, and the process that takes over is killed before it has an answer: the late answer is the newest'
owner_is_stopped
starts_in_group taker
has_claim 2
is_killed taker
check 'the old session is stored' "$old" "$(stored access_token)"
owner_goes_on
late=$(stored access_token)
check 'the old session is stored still' no "$(yes_or_no test "$old" = "$late")"
ends_with 'the next process' 0 onegrant token
# The server may have the request of the killed process now or later, so this compares tokens instead of counting requests.
check 'it prints the late answer: it made no refresh' "$late" "$(cat "$work/stdout")"
ends_with 'refresh' 0 onegrant refresh
check_no_records 'the next process'

step 'a process is killed with its answer on its machine, and another one with a later claim: the answer is adopted'
grant_at killed --delay 1500 --replay grace --grace 60
expire
old=$(stored access_token)
starts_in_group first
has_claim 1
check 'a live claim' 'record 1 is about the stored refresh token, the owner of record 1 runs' "$(meanings | paste -sd , | sed 's/,/, /')"
kill_member 1
kill_member 2
has_answer() { compgen -G "$work/hosts/first/~etcd/~answer.*" >/dev/null; }
wait_until 20 has_answer || give_up 'the answer is not on its machine' "$work/first.err"
is_killed first
restart 1 2
starts_in_group second
has_claim 2
is_killed second
check 'the old session is stored' "$old" "$(stored access_token)"
check 'the claims' '1 2' "$(value | jq -r '[.attempts[].number] | join(" ")')"
check 'of killed processes, about the stored refresh token' 'record 1 is about the stored refresh token, record 2 is about the stored refresh token' \
    "$(meanings | paste -sd , | sed 's/,/, /')"
ends_with 'the next process on the machine of the answer' 0 token_on first
check 'the old session is stored still' no "$(yes_or_no test "$old" = "$(stored access_token)")"
check 'it prints the stored token' "$(stored access_token)" "$(cat "$work/stdout")"
# The later claim could have been live. Now it is about a spent refresh token.
check 'the claim that is left' 2 "$(value | jq -r '[.attempts[].number] | join(" ")')"
check 'what it means' nothing "$(meanings | grep . || echo nothing)"
ends_with 'a process on another machine' 0 token_on third
check 'it prints the stored token' "$(stored access_token)" "$(cat "$work/stdout")"
ends_with 'a process that claims' 0 on third "$ONEGRANT" refresh
check_no_records 'the next claim'

step 'TLS, a client certificate, a user and a password'
for i in 0 1 2; do kill_member $i; done
address=127.0.0.1:$((first_port + 20)) peer_address=http://127.0.0.1:$((first_port + 21))
# etcd's gateway sends its requests to etcd with the server's certificate, so that is a client's, too.
certify() { # NAME EXTENSION...
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=$1" -keyout "$work/$1.key" -out "$work/$1.csr"
    printf '%s\n' "${@:2}" >"$work/$1.extensions"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
        -extfile "$work/$1.extensions" -out "$work/$1.pem"
}
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout "$work/ca.key" -out "$work/ca.pem" &&
        certify server 'subjectAltName=IP:127.0.0.1' 'extendedKeyUsage=serverAuth,clientAuth' &&
        certify client 'extendedKeyUsage=clientAuth' # no common name: the gateway of an etcd with users refuses one
} >"$work/openssl" 2>&1 || give_up openssl "$work/openssl"
start_etcd alone --client-cert-auth --trusted-ca-file "$work/ca.pem" --cert-file "$work/server.pem" --key-file "$work/server.key" \
    --listen-client-urls "https://$address" --advertise-client-urls "https://$address" \
    --listen-peer-urls "$peer_address" --initial-advertise-peer-urls "$peer_address" --initial-cluster "alone=$peer_address"
ask() { # PATH BODY
    curl -sf -m 5 --cacert "$work/ca.pem" --cert "$work/client.pem" --key "$work/client.key" -d "$2" "https://$address/v3/$1"
}
wait_until 20 ask kv/range '{"key":"AA=="}' >/dev/null || give_up 'etcd with TLS did not start' "$work/alone.log"
export ONEGRANT_STORE=etcds://$address/grants SSL_CERT_FILE=$work/ca.pem
ends_with 'without a certificate' 4 onegrant --timeout 3 token
export ONEGRANT_ETCD_CERT=$work/client.pem ONEGRANT_ETCD_KEY=$work/client.key
ends_with 'with a certificate, and nothing stored' 3 onegrant token
{
    for user in root onegrant; do ask auth/user/add "{\"name\":\"$user\",\"password\":\"pass-$user\"}"; done
    ask auth/role/add '{"name":"root"}' || true
    ask auth/user/grant '{"user":"root","role":"root"}'
    ask auth/role/add '{"name":"grants"}'
    ask auth/role/grant "{\"name\":\"grants\",\"perm\":{\"permType\":\"READWRITE\",\"key\":\"$(printf /grants/ | base64)\",\"range_end\":\"$(printf /grants0 | base64)\"}}"
    ask auth/user/grant '{"user":"onegrant","role":"grants"}'
    ask auth/enable '{}'
} >"$work/users"
refused 'a wrong password' 5 'invalid user ID or password' env ONEGRANT_ETCD_USER=onegrant ONEGRANT_ETCD_PASSWORD=wrong "$ONEGRANT" token
export ONEGRANT_ETCD_USER=onegrant ONEGRANT_ETCD_PASSWORD=pass-onegrant
ends_with 'login' 0 onegrant login "${login_options[@]}"
ends_with 'refresh' 0 onegrant refresh
check 'the only profile' default "$(onegrant profiles)"
refused 'another prefix' 5 'permission denied' onegrant --store "etcds://$address/others" token
ends_with 'logout' 0 onegrant logout
check 'the password is shown' no "$(yes_or_no grep -q pass-onegrant "$work/stderr" "$work/stdout")"

finish
