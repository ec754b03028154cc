#!/usr/bin/env bash
# Proves that random kills cost no grant in a real etcd of three members: of members, of callers with their process group and,
# if the authorization server has a grace period, of workers. (A server without one ends the grant when a worker dies with its
# answer.) After each round the grant works, and so does every token that was printed. No record is left, except those of killed
# processes about a refresh token that is spent: the next claim removes them.
#
#   .ci/etcd-kills.sh
#   SEED=1234 KILLS=50 .ci/etcd-kills.sh    the same choices again, and fewer of them
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"
. "$repository/.ci/lib/cells.sh"
. "$repository/.ci/lib/etcd.sh"

seed=${SEED:-$RANDOM}
kills_wanted=${KILLS:-200}
hosts=6 # processes of a round, each on a host of its own
kills_a_round=4
window_ms=700 # in which the kills of a round lie
delay_ms=300  # how long the authorization server takes
deadline=30   # of each process, in seconds

member_options=(--heartbeat-interval 50 --election-timeout 300)
declare -A kills=([leader]=0 [follower]=0 [caller]=0 [worker]=0)
all_kills=0
lost=0
broken=0 # promises that a round broke
left=0   # rounds after which a record was there
longest=0
longest_is=none

begin_with_etcd setsid
echo "SEED=$seed"
RANDOM=$seed

now_ms() { now=$((${EPOCHREALTIME/./} / 1000)); }
lives() { kill -0 "$1" 2>/dev/null && [ "$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)" != Z ]; } # PROCESS
breaks() { # WHAT
    broken=$((broken + 1))
    printf 'FAIL  %s, round %d: %s (kills:%s)\n' "$name" "$number" "$1" "$story"
    for i in $(seq $hosts); do sed "s/^/      $i: /" "$work/round.err.$i"; done | head -n 20
}

# Kills the first victim that there is now, of these kinds in turn.
kill_one() { # KIND...
    local kind victim candidates i leading
    for kind in "$@"; do
        candidates=()
        case $kind in
            member)
                # One member at a time: two of three are a quorum.
                [ "$down" = none ] || is_healthy "$down" || continue
                leading=$(leader || echo none)
                down=$((drawn_member % 3))
                # The leader as often as the two others together.
                if [ $((drawn_member % 2)) = 0 ] && [ "$leading" != none ]; then down=$leading; fi
                kill_member "$down"
                if [ "$down" = "$leading" ]; then kind=leader; else kind=follower; fi
                start_member "$down"
                ;;
            caller)
                for i in $(seq $hosts); do if [ "${ended[i]}" = no ] && lives "${pids[i]}"; then candidates+=("$i"); fi; done
                # One process is left: its result shows how the round went.
                [ "${#candidates[@]}" -gt 1 ] || continue
                victim=${candidates[drawn_victim % ${#candidates[@]}]}
                kill -KILL -- "-${pids[victim]}" 2>/dev/null || continue
                ended[victim]=killed
                # If its worker was killed, a caller spends in its place.
                if [ "${bereft[victim]:-no}" = yes ]; then spenders_killed=$((spenders_killed + 1)); fi
                ;;
            worker)
                [ "$workers_too" = yes ] || continue
                mapfile -t candidates < <(worker_on '[0-9]*')
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
    local i code moment moments kinds began drawn_member drawn_victim down=none spenders_killed=0 story='' token
    local pids=() ended=() bereft=()
    number=$((number + 1))
    # All choices are made before anything happens, so they depend on the seed alone.
    mapfile -t moments < <(printf '%s\n' "${drawn[@]:0:kills_a_round}" | sort -n)
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
        # The moment is random; no event tells it.
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
        [ "${ended[i]}" = killed ] || [ "$code" = 0 ] || breaks "a process that was not killed ended with $code"
    done
    now_ms
    took "$((now - began))" "the crowd of round $number (kills:$story)"

    # The next call finishes what is left, and has a token.
    now_ms
    began=$now
    code=0
    on next timeout "$limit_seconds" "$ONEGRANT" --timeout "$deadline" -v token >"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
    now_ms
    took "$((now - began))" "the next call of round $number (kills:$story)"
    if [ "$code" != 0 ]; then
        lost=$((lost + 1))
        breaks "the session is lost: exit $code"
        sed 's/^/      next: /' "$work/stderr"
        return 1
    fi
    [ "$(cat "$work/stdout")" = "$(stored access_token)" ] || breaks 'the next call does not print the stored token'
    i=$(($(requests) - marked))
    [ "$i" -le $((1 + spenders_killed)) ] || breaks "$i refreshes, and $spenders_killed killed processes that spend"
    for token in $(cat "$work"/round.[0-9]* | sort -u); do
        [ "$(curl -s -m 5 -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $token" "$issuer/userinfo")" = 200 ] ||
            breaks 'a printed token does not work'
    done
    healthy 0 1 2
    ! is_claimed || the_next_claim_removes_what_is_left
}
# A process was killed after its claim, and the answer to an earlier claim was adopted. So its record is about a refresh token
# that is spent.
the_next_claim_removes_what_is_left() {
    local meaning
    meanings >"$work/meanings"
    while read -r meaning; do breaks "a record is left: $meaning"; done <"$work/meanings"
    i=$(value | jq '.attempts | length')
    [ "$i" -le "$spenders_killed" ] || breaks "$i records are left, and $spenders_killed killed processes that spend"
    on next timeout "$limit_seconds" "$ONEGRANT" --timeout "$deadline" refresh >"$work/stdout" 2>"$work/stderr" </dev/null ||
        breaks "a refresh ends with $?"
    ! is_claimed || breaks 'a claim leaves an older record'
    left=$((left + 1))
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
        # The shell reports each process that was killed.
        one_round 2>>"$work/notices" || break
    done
    check "$name: kills in $number rounds, at least" yes "$(yes_or_no test $((all_kills - before)) -ge "$2")"
    # The server accepts what is stored.
    ends_with "$name: a refresh in the end" 0 onegrant refresh
    check_no_records "$name"
}

step 'a server that ends the grant on replay: members and callers are killed'
grant_at strict --delay "$delay_ms"
rounds_until strict $((kills_wanted / 2)) no

step 'a server with a grace period: workers are killed, too'
grant_at grace --delay "$delay_ms" --replay grace --grace 60
rounds_until grace $((kills_wanted - kills_wanted / 2)) yes

step 'together'
for kind in leader follower caller worker; do echo "      $kind: ${kills[$kind]}"; done
check "sessions lost in $all_kills kills (SEED=$seed)" 0 "$lost"
check 'broken promises' 0 "$broken"
echo "      the longest: $longest ms, $longest_is"
echo "      rounds that left a record to the next claim: $left"
# No process waits longer than that for a claim.
check 'it lasted no longer than a claim' yes "$(yes_or_no test "$longest" -le $(((deadline + 10) * 1000)))"
finish
