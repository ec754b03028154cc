#!/usr/bin/env bash
# A grant in a real etcd of three members, shared by processes with homes of their own, as on machines of their own: one
# refresh for a crowd; the leader killed before the claim, between claim and commit, and while others wait; the quorum
# lost before and after the refresh token is spent; the holder stopped until its claim is over.
#
#   ONEGRANT=path/to/onegrant .ci/etcd.sh
#
# Needs bash, curl and the fixture server (built by cargo test); etcd is installed where apt-get can be used. Writes into a
# temporary directory alone, and removes it. About a minute and a half on two
# processors.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"

crowd=100
key=/grants/default
names=(a b c)
members=() # their process identifiers
first_port=$((20000 + RANDOM % 10000))

peer() { echo "http://127.0.0.1:$((first_port + 10 + $1))"; }
client() { echo "127.0.0.1:$((first_port + $1))"; }
cluster=
for i in 0 1 2; do cluster+=${cluster:+,}${names[i]}=$(peer $i); done

start_member() { # INDEX
    etcd --name "${names[$1]}" --data-dir "$work/${names[$1]}" --unsafe-no-fsync \
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
leader() {
    local i status
    for i in 0 1 2; do
        status=$(curl -s -m 1 -X POST -d '{}' "http://$(client $i)/v3/maintenance/status") || continue
        [ -n "$status" ] || continue
        [ "$(printf '%s' "$status" | member leader)" = "$(printf '%s' "$status" | member member_id)" ] && { echo $i; return; }
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
                member value <"$work/range" 2>/dev/null | base64 -d && return
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

begin curl node openssl
need etcd-server etcd --version
server=$(cd "$repository" && cargo build --example authorization_server --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"authorization_server".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$server" ] || give_up 'the authorization server cannot be built'
killed=

step 'three members'
for i in 0 1 2; do start_member $i; done
healthy 0 1 2
export ONEGRANT_STORE=etcd://$(client 0),$(client 1),$(client 2)/grants
authorization_server quick
check 'the only profile' default "$(onegrant profiles)"
check 'the value is the document' 1 "$(stored version)"

step 'the behaviours of every store'
code=0
(cd "$repository" && ONEGRANT_ETCD_MEMBER=$(client 0) cargo test --test store_conformance -- --ignored) >"$work/conformance" 2>&1 || code=$?
sed -n '/^test /p' "$work/conformance"
check 'conformance ends with' 0 "$code"
[ "$code" = 0 ] || tail -n 40 "$work/conformance"

step "$crowd processes with homes of their own, at once"
expire
pids=()
for i in $(seq $crowd); do
    on "$i" timeout "$limit_seconds" "$ONEGRANT" token >"$work/crowd.$i" 2>"$work/crowd.$i.err" </dev/null &
    pids+=($!)
done
codes=0
for pid in "${pids[@]}"; do wait "$pid" || codes=$((codes + 1)); done
check 'crowd: failures' 0 "$codes"
[ "$codes" = 0 ] || cat "$work"/crowd.*.err | sort | uniq -c | head
check_asked crowd 1
check 'crowd: tokens' "$(stored access_token)" "$(cat "$work"/crowd.? "$work"/crowd.?? "$work"/crowd.??? | sort -u)"
check 'crowd: records left' no "$(yes_or_no is_claimed)"

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
check 'his answer is on his machine' 600 "$(stat -c %a "$work/hosts/spender/"~answer.* 2>/dev/null)"
restart 1 2
ends_with 'the next one there' 0 on spender "$ONEGRANT" token
check 'he prints the same token' "$(cat "$work/spender")" "$(cat "$work/stdout")"
check 'it is stored' "$(cat "$work/spender")" "$(stored access_token)"
check_asked 'spender and next' 1
check 'nothing is left on the machine' none "$(ls "$work/hosts/spender/"~answer.* 2>/dev/null || echo none)"

step 'the holder is stopped until its claim is over, and goes on'
authorization_server patient --delay 2500 --replay grace --grace 60
expire
on holder timeout -k 1 "$limit_seconds" "$ONEGRANT" --timeout 3 token >"$work/holder" 2>"$work/holder.err" </dev/null &
pid=$!
wait_until 10 is_claimed || give_up 'nobody claimed'
# The spender is the worker, in a session of its own.
worker=
for process in $(grep -lzx -- '--exchange-for-caller' /proc/[0-9]*/cmdline 2>/dev/null); do
    process=${process%/cmdline}
    if grep -qzx "ONEGRANT_HOME=$work/hosts/holder" "$process/environ" 2>/dev/null; then worker=${process#/proc/}; fi
done
[ -n "$worker" ] || give_up 'the holder has no worker'
kill -STOP "$worker"
check 'the claim is open' yes "$(yes_or_no is_claimed)"
ends_with 'another one, when the claim is over' 0 on taker "$ONEGRANT" --timeout 30 token
taken=$(cat "$work/stdout")
kill -CONT "$worker"
wait "$pid" || true
wait_until 10 test ! -e "/proc/$worker" || true
check 'the newer session stands' "$taken" "$(stored access_token)"
check_asked 'holder and taker' 2
check 'records left' no "$(yes_or_no is_claimed)"
ends_with 'and it works' 0 onegrant refresh

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
