#!/usr/bin/env bash
# Two hundred random kills around a grant in a real etcd of three members: of members, of calling processes with their whole
# process group, and, where the authorization server has a grace period, of the workers that spend. A server that ends
# the grant on replay loses it with a worker that dies with its answer: there the others are killed alone. After each
# round the grant is alive, and every token that was printed works.
#
#   ONEGRANT=path/to/onegrant .ci/etcd-kills.sh
#   SEED=1234 KILLS=50 ONEGRANT=path/to/onegrant .ci/etcd-kills.sh    # the same choices again, and fewer of them
#
# Needs bash, curl, node and the fixture server (built by cargo test); etcd is installed where apt-get can be used. Writes
# into a temporary directory alone, and removes it. About a minute and a half on two processors.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"
. "$repository/.ci/lib/etcd.sh"

seed=${SEED:-$RANDOM}
kills_wanted=${KILLS:-200}
hosts=6 # processes of a round, each with a home of its own
kills_a_round=4
window_ms=700 # in which a round's kills lie
delay_ms=300  # how long the authorization server takes
deadline=30   # of each process, in seconds

member_options=(--heartbeat-interval 50 --election-timeout 300)
declare -A kills=([leader]=0 [follower]=0 [caller]=0 [worker]=0)
all_kills=0
lost=0
unfit=0 # rounds in which something else was not as it must be
longest=0
longest_is=none

begin_with_etcd setsid
echo "SEED=$seed"
RANDOM=$seed

now_ms() { now=$((${EPOCHREALTIME/./} / 1000)); }
lives() { kill -0 "$1" 2>/dev/null && [ "$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)" != Z ]; } # PROCESS
unfit() { # WHAT
    unfit=$((unfit + 1))
    printf 'FAIL  %s, round %d: %s\n' "$name" "$number" "$1"
    for i in $(seq $hosts); do sed "s/^/      $i: /" "$work/round.err.$i"; done | head -n 20
}

# Which processes a round has left to be killed is known when the moment comes.
kill_one() { # KIND...: the first that there is
    local kind victim candidates i leading
    for kind in "$@"; do
        candidates=()
        case $kind in
            member)
                # One at a time: two of three make a quorum.
                [ "$down" = none ] || is_healthy "$down" || continue
                leading=$(leader || echo none)
                down=$((drawn_member % 3))
                # As often the leader as the two others.
                if [ $((drawn_member % 2)) = 0 ] && [ "$leading" != none ]; then down=$leading; fi
                kill_member "$down"
                if [ "$down" = "$leading" ]; then kind=leader; else kind=follower; fi
                start_member "$down"
                ;;
            caller)
                for i in $(seq $hosts); do if [ "${ended[i]}" = no ] && lives "${pids[i]}"; then candidates+=("$i"); fi; done
                # Somebody is left to tell how the round went.
                [ "${#candidates[@]}" -gt 1 ] || continue
                victim=${candidates[drawn_victim % ${#candidates[@]}]}
                kill -KILL -- "-${pids[victim]}" 2>/dev/null || continue
                ended[victim]=killed
                # A caller whose worker has died spends in its place.
                if [ "${bereft[victim]:-no}" = yes ]; then spenders_killed=$((spenders_killed + 1)); fi
                ;;
            worker)
                [ "$workers_too" = yes ] || continue
                candidates=($(workers_on '[0-9]*'))
                [ "${#candidates[@]}" -gt 0 ] || continue
                victim=${candidates[drawn_victim % ${#candidates[@]}]}
                i=$(tr '\0' '\n' 2>/dev/null <"/proc/$victim/environ" | sed -n "s|^ONEGRANT_HOME=$work/hosts/||p") || continue
                [ -n "$i" ] && kill -KILL "$victim" 2>/dev/null || continue
                bereft[i]=yes
                spenders_killed=$((spenders_killed + 1))
                ;;
        esac
        kills[$kind]=$((kills[$kind] + 1))
        all_kills=$((all_kills + 1))
        story+=" $kind"
        return
    done
}

one_round() {
    local i pid code moment moments kinds began drawn_member drawn_victim down=none spenders_killed=0 story='' token
    local pids=() ended=() bereft=()
    number=$((number + 1))
    # All is drawn before anything happens: the choices are the seed's alone.
    moments=($(for ((i = 0; i < kills_a_round; i++)); do echo "${drawn[i]}"; done | sort -n))
    expire
    now_ms
    began=$now
    for i in $(seq $hosts); do
        env ONEGRANT_HOME="$work/hosts/$i" setsid "$ONEGRANT" --timeout "$deadline" -v token \
            >"$work/round.$i" 2>"$work/round.err.$i" </dev/null &
        pids[i]=$!
        ended[i]=no
    done
    for ((i = 0; i < kills_a_round; i++)); do
        now_ms
        moment=$((began + moments[i] - now))
        # The random moment of a kill is no event.
        [ "$moment" -le 0 ] || sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
        drawn_member=${drawn[kills_a_round + i]}
        drawn_victim=${drawn[2 * kills_a_round + i]}
        case $((drawn_victim / 8 % 3)) in
            0) kinds='member caller worker' ;;
            1) kinds='caller member worker' ;;
            2) kinds='worker caller member' ;;
        esac
        kill_one $kinds
    done
    for i in $(seq $hosts); do
        code=0
        wait "${pids[i]}" 2>/dev/null || code=$?
        [ "${ended[i]}" = killed ] || [ "$code" = 0 ] || unfit "a process that nobody killed ended with $code (kills:$story)"
    done
    now_ms
    took "$((now - began))" "the crowd of round $number (kills:$story)"

    # The next call finds a session that is alive, whatever is left to be done for it.
    now_ms
    began=$now
    code=0
    on next timeout "$limit_seconds" "$ONEGRANT" --timeout "$deadline" -v token >"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
    now_ms
    took "$((now - began))" "the next call of round $number (kills:$story)"
    if [ "$code" != 0 ]; then
        lost=$((lost + 1))
        unfit "the session is lost: exit $code (kills:$story)"
        sed 's/^/      next: /' "$work/stderr"
        return 1
    fi
    [ "$(cat "$work/stdout")" = "$(stored access_token)" ] || unfit 'the next call does not print what is stored'
    [ "$(yes_or_no is_claimed)" = no ] || unfit 'a record is left'
    i=$(($(asks) - asked))
    [ "$i" -le $((1 + spenders_killed)) ] || unfit "$i refreshes with $spenders_killed spenders killed (kills:$story)"
    for token in $(cat "$work"/round.[0-9]* | sort -u); do
        [ "$(curl -s -m 5 -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $token" "$issuer/userinfo")" = 200 ] ||
            unfit 'a token was printed that does not work'
    done
    healthy 0 1 2
}
took() { # MILLISECONDS WHAT
    [ "$1" -gt "$longest" ] || return 0
    longest=$1
    longest_is=$2
}

rounds_until() { # NAME KILLS WORKERS_TOO
    local workers_too=$3
    name=$1
    number=0
    before=$all_kills
    while [ $((all_kills - before)) -lt "$2" ]; do
        drawn=()
        for ((i = 0; i < kills_a_round; i++)); do drawn+=($((RANDOM % window_ms))); done
        for ((i = 0; i < 2 * kills_a_round; i++)); do drawn+=($RANDOM); done
        # The shell tells of each process that was killed.
        one_round 2>>"$work/notices" || break
    done
    check "$name: kills in $number rounds, at least" yes "$(yes_or_no test $((all_kills - before)) -ge "$2")"
    # What is stored is what the server takes.
    ends_with "$name: a refresh in the end" 0 onegrant refresh
    check "$name: records left" no "$(yes_or_no is_claimed)"
}

step 'a server that ends the grant on replay: members and callers are killed'
authorization_server strict --delay "$delay_ms"
issuer=$(member issuer <"$work/as.out")
rounds_until strict $((kills_wanted / 2)) no

step 'a server with a grace period: workers, too'
authorization_server grace --delay "$delay_ms" --replay grace --grace 60
issuer=$(member issuer <"$work/as.out")
rounds_until grace $((kills_wanted - kills_wanted / 2)) yes

step 'all in all'
for kind in leader follower caller worker; do echo "      $kind: ${kills[$kind]}"; done
check "sessions lost in $all_kills kills (SEED=$seed)" 0 "$lost"
check 'rounds with something else that must not be' 0 "$unfit"
echo "      the longest: $longest ms, $longest_is"
# Beyond that nobody is bound by a claim.
check 'it lasted no longer than a claim' yes "$(yes_or_no test "$longest" -le $(((deadline + 10) * 1000)))"
finish
