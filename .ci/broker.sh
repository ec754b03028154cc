#!/usr/bin/env bash
# Proves that containers, sandboxes and other machines get access tokens through a broker and never the refresh token: an empty
# root where the socket is all that there is, network namespaces that are connected, ssh -R to a real sshd, socket activation of
# systemd, and bwrap as the page has it. The requests at the authorization server are counted.
#
#   .ci/broker.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

limit_seconds=15
crowd=10 # containers at once

begin unshare chroot setpriv
need curl command -v curl
need iproute2 command -v ip

step 'start an authorization server that ends the family of a spent refresh token, and log in'
authorization_server issuer
ends_with login 0 onegrant login "${login_options[@]}" --git-host git.example --git-host registry.example

expired() { change default "$as_expired"; mark; }
# A path is short: a socket has one of 107 bytes at most.
run=$(mktemp -d "${TMPDIR:-/tmp}/b.XXXXXX")
clean_up_both() { clean_up; rm -rf "$run"; }
trap clean_up_both EXIT

# Starts a broker for a command that runs until it is killed. Sets `command` (its process). What the command has in its environment
# is in $work/NAME.env.
broker() { # NAME ADDRESS PREFIX...
    "${@:3}" "$ONEGRANT" exec --serve "$2" -- sh -c 'tr "\0" "\n" </proc/self/environ >"$0.new" && mv "$0.new" "$0" && exec sleep 600' \
        "$work/$1.env" >"$work/$1.out" 2>&1 </dev/null &
    command=$!
    wait_until "$limit_seconds" [ -e "$work/$1.env" ] || give_up "the broker $1 did not start" "$work/$1.out"
}
variable() { sed -n "s/^$2=//p" "$work/$1.env"; } # NAME VARIABLE
# Runs a command with the two variables of that environment and no other. Another address of the broker may be given.
as_client() { # NAME STORE COMMAND...
    env -i PATH="$PATH" ONEGRANT_STORE="${2:-$(variable "$1" ONEGRANT_STORE)}" ONEGRANT_BROKER_KEY="$(variable "$1" ONEGRANT_BROKER_KEY)" \
        timeout "$limit_seconds" "${@:3}"
}
ends_client() { # PROCESS
    kill "$1"
    wait "$1" 2>/dev/null || true
}
gone() { [ ! -e "$1" ]; }

# The container: an empty root with onegrant and the socket. It has users, mounts, processes and network of its own, no network
# interface, no /proc and no HOME.
cat >"$work/container" <<'END'
exec unshare --user --map-root-user --mount --net --pid --fork -- sh -euc '
    mount --bind "$2" "$1/socket"
    root=$1
    shift 2
    unset PWD OLDPWD
    ONEGRANT_STORE=broker:unix:/socket exec chroot "$root" "$@"' sh "$@"
END
make_root() { # NAME
    mkdir -p "$work/roots/$1"
    cp "$ONEGRANT" "$work/roots/$1/onegrant"
    : >"$work/roots/$1/socket"
}
contained() { # ROOT NAME_OF_ENVIRONMENT SOCKET COMMAND...
    as_client "$2" '' sh -eu "$work/container" "$work/roots/$1" "${@:3}"
}
in_first() { contained first first "$run/first" /onegrant "$@"; }

step 'a container: an empty root without a network, and the socket'
make_root first
unshare --user --map-root-user --mount --net --pid --fork -- true 2>"$work/unshare" || give_up 'no user namespaces' "$work/unshare"
broker first "unix:$run/first"
first=$command
check 'the socket' 'socket 600' "$(stat -c '%F %a' "$run/first")"
check 'what the command has of onegrant' 'ONEGRANT_BROKER_KEY ONEGRANT_STORE' "$(grep -o '^ONEGRANT_[A-Z_]*' "$work/first.env" | sort | paste -sd ' ')"
check 'the store of the command' "broker:unix:$run/first" "$(variable first ONEGRANT_STORE)"
check 'the digits of the key' 32 "$(variable first ONEGRANT_BROKER_KEY | tr -d '\n' | wc -c)"
mark
ends_with 'token' 0 in_first token
check 'token: it is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
cp "$work/stdout" "$work/answers"
ends_with 'token --format json' 0 in_first token --format json
check 'token --format json: its members' 'access_token expires_at scope token_type' "$(jq -r 'keys | join(" ")' "$work/stdout")"
cat "$work/stdout" >>"$work/answers"
ends_with 'status' 0 in_first status
cat "$work/stdout" "$work/stderr" >>"$work/answers"
ends_with 'status --json' 0 in_first status --json
cat "$work/stdout" >>"$work/answers"
ends_with 'profiles' 0 in_first profiles
ends_with 'doctor' 0 in_first doctor
cat "$work/stdout" "$work/stderr" >>"$work/answers"
ends_with 'exec' 0 in_first exec -- /onegrant token
check 'exec: the token of its command' "$(stored access_token)" "$(cat "$work/stdout")"
git_asks() { printf 'protocol=https\nhost=git.example\n\n' | in_first git-credential get; }
ends_with 'git-credential' 0 git_asks
check 'git-credential: the password' "$(stored access_token)" "$(sed -n 's/^password=//p' "$work/stdout")"
cat "$work/stdout" >>"$work/answers"
git_asks_for_another() { printf 'protocol=https\nhost=elsewhere.example\n\n' | in_first git-credential get; }
ends_with 'git-credential for another host' 0 git_asks_for_another
check 'git-credential for another host: what it prints' '' "$(cat "$work/stdout")"
docker_asks() { echo https://registry.example | in_first helper docker get; }
ends_with 'helper docker' 0 docker_asks
check 'helper docker: the secret' "$(stored access_token)" "$(member Secret <"$work/stdout" || true)"
cat "$work/stdout" >>"$work/answers"
cargo_asks() {
    echo '{"v":1,"kind":"get","operation":"read","registry":{"index-url":"sparse+https://registry.example/index/"},"args":[]}' |
        in_first helper cargo --cargo-plugin
}
ends_with 'helper cargo' 0 cargo_asks
check 'helper cargo: the token' "Bearer $(stored access_token)" "$(tail -n 1 "$work/stdout" | member token || true)"
cat "$work/stdout" >>"$work/answers"
check_refreshes 'all of them, with a fresh token' 0

step 'a refused token, and an expired one'
refused_token=$(stored access_token)
is_refused() { echo "$refused_token" | in_first refresh --rejected; }
mark
ends_with 'refresh --rejected' 0 is_refused
cat "$work/stdout" >>"$work/answers"
check 'refresh --rejected: it is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
check 'refresh --rejected: the token is the refused one' no "$(yes_or_no [ "$refused_token" = "$(stored access_token)" ])"
ends_with 'refresh --rejected, once more' 0 is_refused
check 'refresh --rejected, once more: it is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
check_refreshes 'both' 1
mark
ends_with 'refresh' 0 in_first refresh
check_refreshes 'refresh' 1
expired
one_token "$crowd containers on an expired token" $crowd in_first token
check_refreshes "$crowd containers on an expired token" 1
cat "$work"/together/out.* >>"$work/answers"

step 'what belongs to the other side'
belongs_outside() { # WHAT COMMAND...
    refused "$1" 2 'other side' in_first "${@:2}"
    cat "$work/stderr" >>"$work/answers"
}
belongs_outside login login "$issuer" --client-id c
belongs_outside logout logout
belongs_outside migrate migrate --to file:/grant

step 'the refresh token is nowhere inside'
stored refresh_token >"$work/secrets"
check 'refresh tokens to look for' 1 "$(grep -c '^.\{8\}' "$work/secrets")"
check 'in the root' none "$(grep -rlFf "$work/secrets" "$work/roots/first" || echo none)"
check 'in the environment' none "$(grep -lFf "$work/secrets" "$work/first.env" || echo none)"
check 'in the answers' none "$(grep -oFf "$work/secrets" "$work/answers" || echo none)"
check 'the member in the answers' none "$(grep -o refresh_token "$work/answers" || echo none)"
check 'what is in the root' 'onegrant socket' "$(ls "$work/roots/first" | paste -sd ' ')"
check 'the key is in no command line' none "$(grep -lF "$(variable first ONEGRANT_BROKER_KEY)" /proc/[0-9]*/cmdline 2>/dev/null || echo none)"

step 'a second container'
make_root second
broker second "unix:$run/second"
second=$command
check 'the keys differ' no "$(yes_or_no [ "$(variable first ONEGRANT_BROKER_KEY)" = "$(variable second ONEGRANT_BROKER_KEY)" ])"
ends_with 'its own key' 0 contained second second "$run/second" /onegrant token
refused 'the key of the first at its own socket' 2 key contained second first "$run/second" /onegrant token
names_socket() { as_client first '' unshare --user --map-root-user chroot "$work/roots/second" /onegrant token; }
ends_with 'the path of the first socket' 4 names_socket
expired
in_either() {
    if [ $((process % 2)) = 0 ]; then in_first token; else contained second second "$run/second" /onegrant token; fi
}
one_token 'both, on an expired token' $crowd in_either
check_refreshes 'both, on an expired token' 1

step 'the history outside names the process'
ends_with 'status --history' 0 onegrant status --history
check 'status --history: through a broker' 'through a broker' "$(grep -o 'through a broker' "$work/stdout" | head -n 1)"
check 'status --history: a key in it' none "$(grep -oF "$(variable first ONEGRANT_BROKER_KEY)" "$work/stdout" || echo none)"

step 'the end of a command is the end of its broker'
ends_client $second
gone() { [ ! -e "$1" ]; }
wait_until "$limit_seconds" gone "$run/second" || true
check 'the socket of the second' none "$(ls "$run" | grep second || echo none)"
ends_with 'the first goes on' 0 in_first token
kill -KILL $first
wait $first 2>/dev/null || true
wait_until "$limit_seconds" gone "$run/first" || true
check 'the socket of the first, whose command was killed' none "$(ls "$run" | grep first || echo none)"
is_the_command() {
    timeout "$limit_seconds" "$ONEGRANT" exec --serve "unix:$run/third" -- \
        sh -eu "$work/container" "$work/roots/first" "$run/third" /onegrant token
}
ends_with 'a container as the command itself' 0 is_the_command
check 'a container as the command itself: the token' "$(stored access_token)" "$(cat "$work/stdout")"
wait_until "$limit_seconds" gone "$run/third" || true
check 'sockets that are left' none "$(ls "$run" | grep . || echo none)"
refused 'without a grant' 3 login onegrant --profile absent exec --serve "unix:$run/none" -- touch "$work/was-run"
check 'without a grant: the command was run' no "$(yes_or_no [ -e "$work/was-run" ])"
check 'without a grant: sockets that are left' none "$(ls "$run" | grep . || echo none)"
check 'processes of onegrant that are left' none "$(grep -lFz -- "$ONEGRANT" /proc/[0-9]*/cmdline 2>/dev/null || echo none)"

step 'tcp: two machines, connected by a cable'
# Each is a network namespace with a loopback of its own. They are in one user namespace, so that no root is needed.
cat >"$work/network" <<'END'
work=$1
shift
mkfifo "$work/ready"
unshare --net -- sh -euc 'ip link set lo up; echo up >"$0"; exec sleep 600' "$work/ready" &
read -r _ <"$work/ready"
ip link set lo up
ip link add cable type veth peer name cable netns $!
ip addr add 10.11.12.1/24 dev cable
ip link set cable up
nsenter --net=/proc/$!/ns/net sh -euc 'ip addr add 10.11.12.2/24 dev cable; ip link set cable up'
echo $! >"$work/other"
exec "$@"
END
broker machine tcp unshare --user --map-root-user --net -- sh -eu "$work/network" "$work"
machine=$command
other=$(cat "$work/other")
in_network_of() { # PROCESS STORE COMMAND...
    as_client machine "$2" nsenter --preserve-credentials --user="/proc/$machine/ns/user" --net="/proc/$1/ns/net" "${@:3}"
}
on_machine() { in_network_of "$machine" '' "$@"; }
on_other() { in_network_of "$other" '' "$@"; }
store=$(variable machine ONEGRANT_STORE)
port=${store##*:}
check 'the store of the command' "broker:http://127.0.0.1:$port" "$store"
ends_with 'on the machine' 0 on_machine "$ONEGRANT" token
check 'on the machine: the token' "$(stored access_token)" "$(cat "$work/stdout")"
key="Authorization: Bearer $(variable machine ONEGRANT_BROKER_KEY)"
# The status, or the exit code of curl: 7 is a refused connection.
answer() { # ADDRESS HEADER...
    local header options=()
    for header in "${@:2}"; do options+=(-H "$header"); done
    curl -s -m 5 --noproxy '*' -o /dev/null -w '%{http_code}\n' "${options[@]}" "http://$1:$port/v1/token" || echo "curl $?"
}
export -f answer
export port
answer_on() { "$1" bash -c 'port=$1; shift; '"$(declare -f answer)"'; answer "$@"' bash "$port" "${@:2}" | tail -n 1; } # ON ADDRESS HEADER...
check 'on the machine, with the key' 200 "$(answer_on on_machine 127.0.0.1 "$key")"
check 'on the machine, without a key' 401 "$(answer_on on_machine 127.0.0.1)"
check 'on the machine, for a web page' 403 "$(answer_on on_machine 127.0.0.1 "$key" 'Origin: https://page.example')"
check 'on the machine, by a name of a web page' 403 "$(answer_on on_machine 127.0.0.1 "$key" "Host: page.example:$port")"
check 'on the machine, at the address of the cable' 'curl 7' "$(answer_on on_machine 10.11.12.1 "$key")"
check 'over the cable' 'curl 7' "$(answer_on on_other 10.11.12.1 "$key")"
refused 'on the other machine' 4 broker on_other "$ONEGRANT" token
refused 'outside of both' 4 broker as_client machine '' "$ONEGRANT" token
refused 'an address that is not loopback' 2 loopback as_client machine "broker:http://10.11.12.1:$port" "$ONEGRANT" token
ends_client "$machine"
kill "$other"

step 'ssh -R: another machine'
need openssh-server test -x /usr/sbin/sshd
need openssh-client command -v ssh
ssh-keygen -q -t ed25519 -N '' -f "$work/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$work/user_key"
cp "$work/user_key.pub" "$work/authorized_keys"
person=$(id -un)
# Debian's sshd gives up its rights in this directory. Only root can create it.
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
listens() { [ -n "$(ss -Hltn "sport = :$ssh_port")" ]; }
starts_sshd() { # Sets `ssh_port`. Another process may take a port first: then the next one.
    local tries
    for tries in 1 2 3 4 5; do
        ssh_port=$((20000 + RANDOM % 10000))
        ! listens || continue
        cat >"$work/sshd_config" <<END
Port $ssh_port
ListenAddress 127.0.0.1
HostKey $work/host_key
AuthorizedKeysFile $work/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
StreamLocalBindUnlink yes
END
        /usr/sbin/sshd -D -e -f "$work/sshd_config" >"$work/sshd.log" 2>&1 </dev/null &
        sshd=$!
        if wait_until 5 listens && kill -0 "$sshd" 2>/dev/null; then return; fi
    done
    give_up sshd "$work/sshd.log"
}
starts_sshd
echo "[127.0.0.1]:$ssh_port $(cat "$work/host_key.pub")" >"$work/known_hosts"
there() { # SSH_ARGUMENT...
    timeout "$limit_seconds" ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile="$work/known_hosts" \
        -o ExitOnForwardFailure=yes -i "$work/user_key" -p "$ssh_port" "$@"
}
ends_with ssh 0 there "$person@127.0.0.1" true
onegrant_serves() { # NAME COMMAND...: sets `serving`
    "${@:2}" >"$work/$1.out" 2>"$work/$1.err" </dev/null &
    serving=$!
}
onegrant_serves local "$ONEGRANT" serve --socket "$run/local"
wait_until "$limit_seconds" [ -S "$run/local" ] || give_up 'serve --socket' "$work/local.err"
through_ssh() { # ONEGRANT_ARGUMENT...
    there -R "$run/remote:$run/local" "$person@127.0.0.1" env ONEGRANT_HOME="$work/remote" "$ONEGRANT" --store "broker:unix:$run/remote" "$@"
}
expired
ends_with 'token over there' 0 through_ssh token
check 'token over there: it is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
check_refreshes 'token over there' 1
ends_with 'status over there, at the same path' 0 through_ssh status --json
refused 'logout over there' 2 'other side' through_ssh logout
is_refused_there() { stored access_token | through_ssh refresh --rejected; }
mark
ends_with 'refresh --rejected over there' 0 is_refused_there
check_refreshes 'refresh --rejected over there' 1
check 'files over there' none "$(ls "$work/remote" 2>/dev/null | grep . || echo none)"
ends_with 'status --history here' 0 onegrant status --history
check 'status --history here: ssh asked' 'ssh' "$(grep -om 1 '\bssh\b' "$work/stdout" | head -n 1)"
refused 'a second one at this path' 2 'serve' "$ONEGRANT" serve --socket "$run/local"
if [ "$(id -u)" = 0 ]; then
    chmod 711 "$run" && chmod 666 "$run/local"
    is_another() { as_client first "broker:unix:$run/local" setpriv --reuid 65534 --regid 65534 --clear-groups "$run/onegrant" token; }
    cp "$ONEGRANT" "$run/onegrant"
    refused 'another user' 2 user is_another
else
    skip 'another user: this needs root'
fi
kill -TERM "$serving"
waits_for 'serve, after SIGTERM' 0 "$serving"
check 'serve, after SIGTERM: its socket' none "$(ls "$run/local" 2>/dev/null || echo none)"
refused 'token over there, without serve' 4 broker through_ssh token
kill "$sshd"

step 'socket activation of systemd'
if (need systemd command -v systemd-socket-activate) >"$work/systemd" 2>&1; then
    onegrant_serves activated systemd-socket-activate -E ONEGRANT_HOME -l "$run/activated" "$ONEGRANT" serve
    wait_until "$limit_seconds" [ -S "$run/activated" ] || give_up systemd-socket-activate "$work/activated.err"
    from_activated() { ONEGRANT_STORE="broker:unix:$run/activated" timeout "$limit_seconds" "$ONEGRANT" token; }
    expired
    ends_with 'token' 0 from_activated
    check 'token: it is the stored one' "$(stored access_token)" "$(cat "$work/stdout")"
    one_token 'many' $crowd from_activated
    check_refreshes 'all of them' 1
    kill -TERM "$serving"
    waits_for 'serve, after SIGTERM' 0 "$serving"
    check "systemd's socket" yes "$(yes_or_no [ -S "$run/activated" ])"
else
    skip 'socket activation: systemd cannot be installed'
fi

step 'bwrap, as the page has it'
if (need bubblewrap command -v bwrap) >"$work/bwrap" 2>&1 && bwrap --ro-bind / / --unshare-all true 2>"$work/bwrap"; then
    mkdir "$work/bin"
    ln -s "$ONEGRANT" "$work/bin/onegrant"
    as_the_page_says() { PATH=$work/bin:$PATH XDG_RUNTIME_DIR=$run bash -euc "$(block containers-and-ci.md bwrap)"; }
    expired
    ends_with 'bwrap' 0 as_the_page_says
    check 'bwrap: the token' "$(stored access_token)" "$(tail -n 1 "$work/stdout")"
    check_refreshes 'bwrap' 1
    check 'bwrap: sockets that are left' none "$(ls "$run" | grep onegrant.sock || echo none)"
else
    skip 'bwrap: it cannot be installed, or no user namespaces'
fi

finish
