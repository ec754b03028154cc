#!/usr/bin/env bash
# Proves that a grant is safe in two real keyrings behind docker's credential helper protocol, pass (GnuPG) and the secret
# service (GNOME Keyring): a crowd shares one refresh, kills in the middle of a refresh lose nothing if the server has a grace
# period, and a grant moves out and back in.
#
#   .ci/keyring.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"
. "$repository/.ci/lib/cells.sh"

crowd=20
kills=10

# The document in the keyring of the profile.
address() { echo "https://onegrant.invalid/$profile"; }
value() { address | "docker-credential-$profile" get | jq -j .Secret; }
put_value() { # stdin
    jq -Rsc --arg address "$(address)" '{ ServerURL: $address, Username: "onegrant", Secret: rtrimstr("\n") }' |
        "docker-credential-$profile" store
}

begin mkfifo setsid
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

step 'start an authorization server that ends the family of a spent refresh token, and one with a grace period'
authorization_server strict
to_strict=("${login_options[@]}" --scope 'openid offline_access')
authorization_server grace --replay grace --grace 60
to_grace=("${login_options[@]}" --scope 'openid offline_access')

step 'start the keyrings'
# The keyrings of the user who runs this stay as they are.
mkdir -m 700 "$work/gnupg" "$work/run" "$work/person"
export HOME=$work/person GNUPGHOME=$work/gnupg PASSWORD_STORE_DIR=$work/passwords XDG_RUNTIME_DIR=$work/run
unset XDG_STATE_HOME XDG_DATA_HOME XDG_CONFIG_HOME DISPLAY WAYLAND_DISPLAY DBUS_SESSION_BUS_ADDRESS
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key onegrant default default never \
    2>"$work/gpg" || give_up gpg "$work/gpg"
pass init onegrant >"$work/pass" 2>&1 || give_up 'pass init' "$work/pass"
# A bus that starts no service: a keyring that the bus starts is locked.
cat >"$work/bus.conf" <<END
<busconfig><type>session</type><listen>unix:path=$work/run/bus</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
END
dbus-daemon --config-file="$work/bus.conf" --nofork --nopidfile --print-address=1 >"$work/bus" 2>"$work/bus.log" &
wait_until "$limit_seconds" test -s "$work/bus" || give_up dbus-daemon "$work/bus.log"
DBUS_SESSION_BUS_ADDRESS=$(head -n 1 "$work/bus")
export DBUS_SESSION_BUS_ADDRESS
printf secret | gnome-keyring-daemon --foreground --unlock --components=secrets >"$work/keyring.log" 2>&1 &
keyring_answers() { # that the secret is not there, with exit code 1
    local answer
    answer=$(echo https://onegrant.invalid/none | timeout 5 docker-credential-secretservice get || true)
    [[ $answer == *'not found'* ]]
}
wait_until "$limit_seconds" keyring_answers || give_up gnome-keyring-daemon "$work/keyring.log"

# Kills a process and all its descendants at once.
kill_tree() { # PROCESS
    local all=("$1") next=("$1")
    while [ "${#next[@]}" -gt 0 ]; do
        mapfile -t next < <(ps -o pid= --ppid "$(IFS=,; echo "${next[*]}")" | tr -d ' ')
        all+=("${next[@]}")
    done
    kill -KILL "${all[@]}" 2>/dev/null || true
}

for profile in pass secretservice; do
    export ONEGRANT_STORE=helper:$profile
    step "$profile: log in, then $crowd processes at once"
    server=strict
    ends_with "$profile: login" 0 onegrant login "${to_strict[@]}"
    check "$profile: profiles" "$profile" "$(onegrant profiles)"
    check "$profile: level" 'locked here' "$(onegrant status --json | member level)"
    # The new token lasts: programs of the keyring are slow, and a crowd of them needs seconds.
    expire
    one_token "$profile" $crowd onegrant token
    check_refreshes "$profile" 1
    check "$profile: the token is the stored one" "$(stored access_token)" "$(cat "$work/together/out.1")"
    ends_with "$profile: refresh" 0 onegrant refresh

    step "$profile: into a file and back"
    ends_with "$profile: migrate" 0 onegrant migrate --to "file:$work/home"
    check "$profile: profiles after the move" '' "$(onegrant profiles)"
    ends_with "$profile: refresh in the file" 0 onegrant --store "file:$work/home" refresh
    ends_with "$profile: migrate back" 0 onegrant --store "file:$work/home" migrate --to "helper:$profile"
    ends_with "$profile: refresh after that" 0 onegrant refresh
    ends_with "$profile: logout" 0 onegrant logout
    check "$profile: profiles after the logout" '' "$(onegrant profiles)"

    step "$profile: $kills kills of every process in the middle of a refresh"
    server=grace
    ends_with "$profile: login" 0 onegrant login "${to_grace[@]}"
    lost=0 spent=0 began=${EPOCHREALTIME/./}
    ends_with "$profile: refresh" 0 onegrant refresh
    took_us=$((${EPOCHREALTIME/./} - began))
    for round in $(seq $kills); do
        mark
        "$ONEGRANT" --profile "$profile" refresh >/dev/null 2>&1 </dev/null &
        victim=$!
        # From the first third of a refresh to its end. No event tells these moments.
        after_us=$((took_us / 3 + took_us * 2 / 3 * round / kills))
        sleep "$((after_us / 1000000)).$(printf %06d $((after_us % 1000000)))"
        kill_tree $victim
        wait $victim 2>/dev/null || true
        [ "$(requests)" = "$marked" ] || spent=$((spent + 1))
        if ! onegrant refresh >"$work/stdout" 2>"$work/stderr" </dev/null; then
            lost=$((lost + 1))
            sed 's/^/      /' "$work/stderr"
        fi
    done
    echo "      a refresh takes $((took_us / 1000)) ms; $spent of the killed ones had sent their refresh token"
    check "$profile: grants that a kill cost" 0 "$lost"
    ends_with "$profile: logout" 0 onegrant logout
done

finish
