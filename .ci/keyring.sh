#!/usr/bin/env bash
# Two real keyrings behind docker's credential helper protocol, pass (GnuPG) and the secret service (GNOME Keyring): a crowd
# shares one refresh, kills in the middle of it lose nothing where the server has a grace period, and a grant moves in and
# out. Under 90 s, and what apt-get takes.
#
#   ONEGRANT=path/to/onegrant .ci/keyring.sh
#
# Needs bash, node and cargo; the rest is installed where apt-get can be used. Writes into a temporary directory alone, and
# removes it.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"

crowd=20
kills=10
lifetime_seconds=6
home_of_rust=$HOME
cargo_home=${CARGO_HOME:-$home_of_rust/.cargo}
rustup_home=${RUSTUP_HOME:-$home_of_rust/.rustup}

begin cargo mkfifo setsid
end_keyrings() {
    gpgconf --homedir "$work/gnupg" --kill all 2>/dev/null || true
    clean_up
}
trap end_keyrings EXIT

step 'install the helpers and their keyrings'
need golang-docker-credential-helpers sh -c 'command -v docker-credential-pass docker-credential-secretservice'
need pass command -v pass
need gnupg command -v gpg
need gnome-keyring command -v gnome-keyring-daemon
need dbus-daemon command -v dbus-daemon

# Nothing of this user's is touched.
mkdir -m 700 "$work/gnupg" "$work/run" "$work/person"
export HOME=$work/person GNUPGHOME=$work/gnupg PASSWORD_STORE_DIR=$work/passwords XDG_RUNTIME_DIR=$work/run
unset XDG_STATE_HOME XDG_DATA_HOME XDG_CONFIG_HOME DISPLAY WAYLAND_DISPLAY DBUS_SESSION_BUS_ADDRESS

step 'start an authorization server that ends the family of a spent refresh token, and one with a grace period'
# It serves until its stdin ends.
mkfifo "$work/open"
exec 9<>"$work/open"
authorization_server() { # NAME OPTION...
    HOME=$home_of_rust CARGO_HOME=$cargo_home RUSTUP_HOME=$rustup_home cargo build --quiet --locked \
        --manifest-path "$repository/Cargo.toml" --example authorization_server --message-format=json >"$work/built"
    local program
    program=$(sed -n 's/.*"executable":"\([^"]*authorization_server\)".*/\1/p' "$work/built" | tail -n 1)
    "$program" --auto-approve --print-requests "${@:2}" <&9 >"$work/$1.json" 2>"$work/$1.log" &
    servers+=($!)
    wait_until 30 has_member client_id "$work/$1.json" || give_up "$1 did not start" "$work/$1.json" "$work/$1.log"
    client=$(cat "$work/member")
    issuer=$(member issuer <"$work/$1.json")
}
authorization_server strict --lifetime "$lifetime_seconds"
strict=$issuer strict_client=$client
authorization_server grace --replay grace --grace 60
grace=$issuer grace_client=$client
# After a login all that comes to the token endpoint is a refresh.
requests() { grep -c 'POST /token' "$work/$1.log" || true; } # NAME

step 'start the keyrings'
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key onegrant default default never \
    2>"$work/gpg" || give_up 'gpg' "$work/gpg"
pass init onegrant >"$work/pass" 2>&1 || give_up 'pass init' "$work/pass"
# A bus that starts nothing by itself: a keyring that is started so is locked, and nobody is here to unlock it.
cat >"$work/bus.conf" <<END
<busconfig><type>session</type><listen>unix:path=$work/run/bus</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
END
dbus-daemon --config-file="$work/bus.conf" --nofork --nopidfile --print-address=1 >"$work/bus" 2>"$work/bus.log" &
servers+=($!)
wait_until 10 test -s "$work/bus" || give_up 'dbus-daemon' "$work/bus.log"
DBUS_SESSION_BUS_ADDRESS=$(head -n 1 "$work/bus")
export DBUS_SESSION_BUS_ADDRESS
printf secret | gnome-keyring-daemon --foreground --unlock --components=secrets >"$work/keyring.log" 2>&1 &
servers+=($!)
answers() { # its complaint that nothing is there; exit code 1
    local said
    said=$(echo https://onegrant.invalid/none | timeout 5 docker-credential-secretservice get || true)
    [[ $said == *'not found'* ]]
}
wait_until 10 answers || give_up 'gnome-keyring-daemon' "$work/keyring.log"

logs_in() { # ISSUER CLIENT
    ends_with "$keyring: login" 0 onegrant login "$1" --client-id "$2" --device --scope 'openid offline_access'
}

# A process with all that came of it, the helper and gpg too: at once.
kill_tree() { # PROCESS
    local all=$1 level=$1 next
    while next=$(ps -e -o pid=,ppid= | awk -v parents=" $level " 'index(parents, " " $2 " ") { printf "%s ", $1 }') && [ -n "$next" ]; do
        all="$all $next"
        level=$(printf '%s' "$next" | sed 's/ $//')
    done
    # shellcheck disable=SC2086 # words
    kill -9 $all 2>/dev/null || true
}

for keyring in pass secretservice; do
    export ONEGRANT_STORE=helper:$keyring
    profile=$keyring
    step "$keyring: log in, then $crowd processes at once"
    logs_in "$strict" "$strict_client"
    check "$keyring: profiles" "$keyring" "$(onegrant profiles)"
    check "$keyring: level" 'locked here' "$(onegrant status --json | member level)"
    sleep $((lifetime_seconds + 1))
    before=$(requests strict)
    pids=()
    for _ in $(seq $crowd); do
        onegrant token >>"$work/$keyring.tokens" 2>>"$work/$keyring.said" &
        pids+=($!)
    done
    failures=0
    for pid in "${pids[@]}"; do wait "$pid" || failures=$((failures + 1)); done
    check "$keyring: of $crowd processes failed" 0 "$failures"
    [ "$failures" = 0 ] || sort "$work/$keyring.said" | uniq -c
    check "$keyring: different tokens" 1 "$(sort -u "$work/$keyring.tokens" | wc -l)"
    check "$keyring: refreshes" 1 $(($(requests strict) - before))
    ends_with "$keyring: refresh, the session lives" 0 onegrant refresh

    step "$keyring: into a file and back"
    ends_with "$keyring: migrate" 0 onegrant migrate --to "file:$work/home"
    check "$keyring: profiles after the move" '' "$(onegrant profiles)"
    ends_with "$keyring: refresh in the file" 0 onegrant --store "file:$work/home" refresh
    ends_with "$keyring: migrate back" 0 onegrant --store "file:$work/home" migrate --to "helper:$keyring"
    ends_with "$keyring: refresh after that" 0 onegrant refresh
    ends_with "$keyring: logout" 0 onegrant logout
    check "$keyring: profiles after the logout" '' "$(onegrant profiles)"

    step "$keyring: $kills kills of everything in the middle of a refresh"
    logs_in "$grace" "$grace_client"
    lost=0 began=0
    began_at=$(date +%s%3N)
    ends_with "$keyring: refresh" 0 onegrant refresh
    took=$(($(date +%s%3N) - began_at))
    echo "      it took $took ms"
    for round in $(seq $kills); do
        before=$(requests grace)
        "$ONEGRANT" --profile "$profile" refresh >/dev/null 2>&1 </dev/null &
        victim=$!
        # From the first third of a refresh to its end.
        after=$((took / 3 + took * 2 / 3 * round / kills))
        sleep $((after / 1000)).$(printf %03d $((after % 1000)))
        kill_tree $victim
        wait $victim 2>/dev/null || true
        [ "$(requests grace)" = "$before" ] || began=$((began + 1))
        if ! onegrant refresh >"$work/stdout" 2>"$work/stderr" </dev/null; then
            lost=$((lost + 1))
            sed 's/^/      /' "$work/stderr"
        fi
    done
    echo "      $began of them had sent their refresh token"
    check "$keyring: grants that a kill cost" 0 "$lost"
    ends_with "$keyring: logout" 0 onegrant logout
done

finish
