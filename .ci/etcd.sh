#!/usr/bin/env bash
# A grant in a real etcd of three members, shared by processes with homes of their own, as on machines of their own: one
# refresh for a crowd; the leader killed before the claim, between claim and commit, and while others wait; the quorum
# lost before and after the refresh token is spent; the holder stopped until its claim is over, with somebody who took over
# and with one who died at it. Says how long the last of the crowd waits, against what cannot be saved.
#
#   ONEGRANT=path/to/onegrant .ci/etcd.sh
#
# Needs bash, curl and the fixture server (built by cargo test); etcd is installed where apt-get can be used. Writes into a
# temporary directory alone, and removes it. About two minutes on two processors.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"
. "$repository/.ci/lib/etcd.sh"

crowd=100

begin_with_etcd openssl
authorization_server quick
check 'the only profile' default "$(onegrant profiles)"
check 'the value is the document' 1 "$(stored version)"

step 'the behaviours of every store'
code=0
(cd "$repository" && ONEGRANT_ETCD_MEMBER=$(client 0) cargo test --test stores conformance -- --ignored) >"$work/conformance" 2>&1 || code=$?
sed -n '/^test /p' "$work/conformance"
check 'conformance ends with' 0 "$code"
[ "$code" = 0 ] || tail -n 40 "$work/conformance"

# As many processes as hosts, started one after the other and waited for: sets `took`, in milliseconds, and `codes`, how many
# failed.
on_all_hosts() { # ARGUMENT...
    local i pid pids=() began=${EPOCHREALTIME/./}
    for ((i = 1; i <= crowd; i++)); do
        on "$i" timeout "$limit_seconds" "$ONEGRANT" "$@" >"$work/crowd.$i" 2>"$work/crowd.$i.err" </dev/null &
        pids+=($!)
    done
    codes=0
    for pid in "${pids[@]}"; do wait "$pid" || codes=$((codes + 1)); done
    took=$(((${EPOCHREALTIME/./} - began) / 1000))
}
crowd_gets_one_token() { # NAME
    expire
    on_all_hosts token
    check "$1: failures" 0 "$codes"
    [ "$codes" = 0 ] || cat "$work"/crowd.*.err | sort | uniq -c | head
    check_asked "$1" 1
    check "$1: tokens" "$(stored access_token)" "$(cat "$work"/crowd.? "$work"/crowd.?? "$work"/crowd.??? | sort -u)"
    check "$1: records left" no "$(yes_or_no is_claimed)"
}
step "$crowd processes with homes of their own, at once"
crowd_gets_one_token crowd

step 'how long the last of them waits, against what cannot be saved'
authorization_server measured --delay 300
milliseconds() { curl -s -o /dev/null -m 10 -w '%{time_total}\n' "$@" | awk '{print $1 * 1000}'; } # CURL_ARGUMENT...
median() { sort -n | awk '{line[NR] = $1} END {print line[int((NR + 1) / 2)]}'; }
# What was asked of all members: reads, transactions, watches.
asked_of_store() {
    local i
    for i in 0 1 2; do curl -s -m 2 "http://$(client $i)/metrics"; done |
        sed -n 's/^grpc_server_started_total{grpc_method="\(Range\|Txn\|Watch\)".* //p' | awk '{sum += $1} END {print sum}'
}
token_endpoint=$(stored token_endpoint)
refresh=$(for i in 1 2 3; do milliseconds -d 'grant_type=refresh_token&client_id=onegrant-fixture&refresh_token=none' "$token_endpoint"; done | median)
read=$(for i in {1..9}; do milliseconds -d "{\"key\":\"$(printf %s $key | base64)\"}" "http://$(client 0)/v3/kv/range"; done | median)
ratios=()
for turn in 1 2 3 4 5; do
    on_all_hosts --version
    spawn=$took
    expire
    before=$(asked_of_store)
    on_all_hosts token
    questions=$(($(asked_of_store) - before))
    floor=$(awk "BEGIN {printf \"%.0f\", $refresh + 2 * $read + $spawn}")
    ratios+=("$(awk "BEGIN {printf \"%.2f\", $took / $floor}")")
    printf '      %d ms of %d ms = refresh %.0f + 2 reads of %.1f + spawn %d: %s times; %d questions to etcd\n' \
        "$took" "$floor" "$refresh" "$read" "$spawn" "${ratios[-1]}" "$questions"
    check "measured $turn: failures" 0 "$codes"
    check_asked "measured $turn" 1
done
ratio=$(printf '%s\n' "${ratios[@]}" | median)
echo "      the median: $ratio times what cannot be saved"
# A figure of the machine, too: it is told, and fails nothing.
awk "BEGIN {exit !($ratio > 1.5)}" && echo "NOTE  it is above 1.5"

step 'the leader is killed before the claim'
expire
kill_leader
ends_with 'token' 0 onegrant token
check_asked 'before the claim' 1
check 'the token is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
restart "$killed"

step 'the leader is killed between claim and commit, while others wait'
authorization_server slow --delay 1500
expire
pids=()
for i in 1 2 3 4 5; do
    on "$i" timeout "$limit_seconds" "$ONEGRANT" token >"$work/slow.$i" 2>"$work/slow.$i.err" </dev/null &
    pids+=($!)
done
wait_until 10 is_claimed || give_up 'nobody claimed'
kill_leader
codes=0
for pid in "${pids[@]}"; do wait "$pid" || codes=$((codes + 1)); done
check 'between: failures' 0 "$codes"
check_asked 'between' 1
check 'between: tokens' "$(stored access_token)" "$(cat "$work"/slow.? | sort -u)"
restart "$killed"

step 'the leader is killed when the answer comes, four times at four moments'
for wait in 1.40 1.48 1.50 1.52; do
    expire
    onegrant token >"$work/stdout" 2>"$work/stderr" &
    pid=$!
    wait_until 10 is_claimed || give_up 'nobody claimed'
    has_leader || give_up 'there is no leader'
    sleep "$wait"
    killed=$(cat "$work/leader")
    kill_member "$killed"
    code=0
    wait "$pid" || code=$?
    check "at $wait s: ends with" 0 "$code"
    check_asked "at $wait s" 1
    check "at $wait s: the token is the stored one" "$(stored access_token)" "$(cat "$work/stdout")"
    restart "$killed"
done

step 'the quorum is lost: nothing is spent'
expire
kill_member 1
kill_member 2
ends_with 'token' 4 onegrant --timeout 3 token
check_asked 'without a quorum' 0
restart 1 2
ends_with 'token, with a quorum again' 0 onegrant token
check_asked 'with a quorum again' 1

step 'the quorum is lost after the refresh token is spent: the next process stores the answer'
expire
on spender timeout "$limit_seconds" "$ONEGRANT" --timeout 12 token >"$work/spender" 2>"$work/spender.err" </dev/null &
pid=$!
wait_until 10 is_claimed || give_up 'nobody claimed'
kill_member 1
kill_member 2
code=0
wait "$pid" || code=$?
check 'the spender ends with' 0 "$code"
check 'his answer is on his machine' 600 "$(stat -c %a "$work/hosts/spender/~etcd/"~answer.* 2>/dev/null)"
restart 1 2
ends_with 'the next one there' 0 on spender "$ONEGRANT" token
check 'he prints the same token' "$(cat "$work/spender")" "$(cat "$work/stdout")"
check 'it is stored' "$(cat "$work/spender")" "$(stored access_token)"
check_asked 'spender and next' 1
check 'nothing is left on the machine' none "$(ls "$work/hosts/spender/~etcd/"~answer.* 2>/dev/null || echo none)"

step 'the holder is stopped until its claim is over, and goes on'
authorization_server patient --delay 2500 --replay grace --grace 60
holds() {
    expire
    old=$(stored access_token)
    on holder timeout -k 1 "$limit_seconds" "$ONEGRANT" --timeout 3 token >"$work/holder" 2>"$work/holder.err" </dev/null &
    pid=$!
    wait_until 10 is_claimed || give_up 'nobody claimed'
    worker=$(workers_on holder)
    [ -n "$worker" ] || give_up 'the holder has no worker'
    kill -STOP "$worker"
}
holds
check 'the claim is open' yes "$(yes_or_no is_claimed)"
ends_with 'another one, when the claim is over' 0 on taker "$ONEGRANT" --timeout 30 token
# His answer was the holder's once more: the one after it tells them apart.
ends_with 'and again' 0 on taker "$ONEGRANT" refresh
newest=$(stored access_token)
goes_on() {
    kill -CONT "$worker"
    wait "$pid" || true
    wait_until 20 test ! -e "/proc/$worker" || true
    check 'the holder still runs' no "$(yes_or_no test -e "/proc/$worker")"
}
goes_on
check 'the newer session stands' "$newest" "$(stored access_token)"
check_asked 'holder and taker' 3
check 'records left' no "$(yes_or_no is_claimed)"
ends_with 'and it works' 0 onegrant refresh

step 'the same, and whoever took over dies before he has an answer: the late one is the newest'
holds
# In a process group of its own, which is named after it.
env ONEGRANT_HOME="$work/hosts/taker" setsid "$ONEGRANT" --timeout 30 token >"$work/taker" 2>"$work/taker.err" </dev/null &
taker=$!
has_worker() { taking=$(workers_on taker) && [ -n "$taking" ]; }
is_taken() { value | grep -q '"number":2'; }
wait_until 20 is_taken || give_up 'nobody took over' "$work/taker.err"
has_worker || give_up 'the taker has no worker'
kill -KILL -- "-$taker"
kill -KILL "$taking"
wait "$taker" 2>/dev/null || true
check 'the old session is stored' "$old" "$(stored access_token)"
goes_on
check 'a newer one is stored' no "$(yes_or_no test "$old" = "$(stored access_token)")"
asked=$(asks)
ends_with 'the next one' 0 onegrant token
check 'he prints it' "$(stored access_token)" "$(cat "$work/stdout")"
check_asked 'the next one' 0
ends_with 'and it works' 0 onegrant refresh
check 'records left' no "$(yes_or_no is_claimed)"

step 'TLS, a client certificate, a user and a password'
for member in 0 1 2; do kill_member $member; done
port=$((first_port + 20))
# An authority, and what it signed: etcd's gateway asks etcd itself with the server's certificate, as a client.
certify() { # NAME EXTENSION...
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=$1" -keyout "$work/$1.key" -out "$work/$1.csr"
    printf '%s\n' "${@:2}" >"$work/$1.extensions"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
        -extfile "$work/$1.extensions" -out "$work/$1.pem"
}
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout "$work/ca.key" -out "$work/ca.pem" &&
        certify server 'subjectAltName=IP:127.0.0.1' 'extendedKeyUsage=serverAuth,clientAuth' &&
        certify client 'extendedKeyUsage=clientAuth' # without a common name: where etcd has users, its gateway refuses one
} >"$work/openssl" 2>&1 || give_up 'openssl' "$work/openssl"
etcd --name alone --data-dir "$work/alone" --unsafe-no-fsync --client-cert-auth --trusted-ca-file "$work/ca.pem" \
    --cert-file "$work/server.pem" --key-file "$work/server.key" \
    --listen-client-urls "https://127.0.0.1:$port" --advertise-client-urls "https://127.0.0.1:$port" \
    --listen-peer-urls "http://127.0.0.1:$((port + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$((port + 1))" \
    --initial-cluster "alone=http://127.0.0.1:$((port + 1))" >"$work/alone.log" 2>&1 </dev/null &
servers+=($!)
ask() { # PATH BODY
    curl -sf -m 5 --cacert "$work/ca.pem" --cert "$work/client.pem" --key "$work/client.key" \
        ${admin:+-H "Authorization: $admin"} -d "$2" "https://127.0.0.1:$port/v3/$1"
}
admin=
wait_until 20 ask kv/range '{"key":"AA=="}' >/dev/null || give_up 'etcd with TLS did not start' "$work/alone.log"
export ONEGRANT_STORE=etcds://127.0.0.1:$port/grants SSL_CERT_FILE=$work/ca.pem
ends_with 'without a certificate' 4 onegrant --timeout 3 token
export ONEGRANT_ETCD_CERT=$work/client.pem ONEGRANT_ETCD_KEY=$work/client.key
ends_with 'with a certificate, and nothing stored' 3 onegrant token
for user in root onegrant; do ask auth/user/add "{\"name\":\"$user\",\"password\":\"pass-$user\"}" >/dev/null; done
ask auth/role/add '{"name":"root"}' >/dev/null || true
ask auth/user/grant '{"user":"root","role":"root"}' >/dev/null
ask auth/role/add '{"name":"grants"}' >/dev/null
ask auth/role/grant "{\"name\":\"grants\",\"perm\":{\"permType\":\"READWRITE\",\"key\":\"$(printf /grants/ | base64)\",\"range_end\":\"$(printf /grants0 | base64)\"}}" >/dev/null
ask auth/user/grant '{"user":"onegrant","role":"grants"}' >/dev/null
ask auth/enable '{}' >/dev/null
refused 'a wrong password' 5 'invalid user ID or password' env ONEGRANT_ETCD_USER=onegrant ONEGRANT_ETCD_PASSWORD=wrong "$ONEGRANT" token
export ONEGRANT_ETCD_USER=onegrant ONEGRANT_ETCD_PASSWORD=pass-onegrant
ends_with 'login' 0 onegrant login "$(member issuer <"$work/as.out")" --client-id "$(member client_id <"$work/as.out")" --device
ends_with 'refresh' 0 onegrant refresh
check 'the only profile' default "$(onegrant profiles)"
refused 'another prefix' 5 'permission denied' onegrant --store "etcds://127.0.0.1:$port/others" token
ends_with 'logout' 0 onegrant logout
check 'no password is shown' 0 "$(cat "$work/stderr" "$work/stdout" | grep -c pass-onegrant || true)"

finish
