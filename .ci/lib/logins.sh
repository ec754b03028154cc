# Logins at real servers, and what a session does there; sourced after checks.sh by the scripts about real servers.
#
# shellcheck shell=bash

crowd=20             # processes at once
lifetime_seconds=10  # of an access token: a refresh and a crowd fit into it on a busy machine, too
secret='sec:ret/+%&' # equals itself only if it is form-encoded before base64 (RFC 6749 section 2.3.1)
make_secrets() {
    printf '%s' "$secret" >"$work/secret"
    printf wrong >"$work/wrong-secret"
}

http() { # URL [CURL_OPTION...]: status and body
    curl -s -m 10 --noproxy '*' -o "$work/body" -w '%{http_code} ' "${@:2}" "$1" && cat "$work/body"
}
bearer() { http "$2" -H "Authorization: Bearer $1" | cut -c 1-3; } # TOKEN URL: the status

# The packages of a server below $work, so that the repository stays as it is.
node_packages() { # DIRECTORY_OF_FIXTURES
    mkdir "$work/$1"
    cp "$fixtures/$1"/{package.json,package-lock.json} "$work/$1"
    (cd "$work/$1" && timeout 300 npm ci --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error) \
        >"$work/npm" 2>&1 </dev/null || give_up 'npm ci' "$work/npm"
}
node_server() { # NAME DIRECTORY_OF_FIXTURES SETTING...
    serve "$1" env MODULES="$work/$2" "${@:3}" node "$fixtures/$2/server.mjs"
}
# What clients sent to the server `issuer`.
sent() { curl -s -m 10 --noproxy '*' "${issuer%/}/requests"; }
# Requests of a grant type there, by their answers: "2 invalid_grant, 1 ok".
answered() { # GRANT_TYPE
    sent | jq -r --arg type "$1" '
        select(.values.grant_type // "" | split(":") | last == $type) | .error // (if .status == 200 then "ok" else .status end)' | tally
}
answered_ok() { answered "$1" | grep -o '[0-9]* ok' | cut -d ' ' -f 1 | grep . || echo 0; } # GRANT_TYPE

# What a person does at the address that a login shows.
acts() { # approve|deny|none|chromium ADDRESS
    case $1 in
        none) ;;
        chromium) timeout "$limit_seconds" node "$fixtures/real_servers/browser.mjs" "$2" "$work/browser" ;;
        *) timeout "$limit_seconds" node "$fixtures/real_servers/person.mjs" "$1" "$2" ;;
    esac
}
# Starts a login, whose process is `login`, and acts as a person at the address that it shows as JSON.
asks_a_person() { # ACTION MEMBER LOGIN_OPTION...
    timeout "$limit_seconds" "$ONEGRANT" ${profile:+--profile "$profile"} login "${@:3}" --json >"$work/login" 2>"$work/login.err" </dev/null &
    login=$!
    asks() { has_member "$1" "$work/login"; }
    asks_or_has_ended() { asks "$1" || ! kill -0 "$login" 2>/dev/null; }
    if wait_until "$limit_seconds" asks_or_has_ended "$2" && asks "$2"; then
        acts "$1" "$(cat "$work/member")" </dev/null 2>&1 | sed 's/^/      /' || true
    else
        echo '      login asks for nothing'
    fi
}
# The same, and waits for the end of the login.
logs_in() { # WHAT WANTED_CODE ACTION MEMBER LOGIN_OPTION...
    local login
    asks_a_person "${@:3}"
    local before=$failed
    waits_for "$1: login" "$2" "$login"
    [ "$failed" = "$before" ] || sed 's/^/      /' "$work/login" "$work/login.err"
}
by_device() { logs_in "${@:1:3}" verification_uri_complete "${@:4}" --device; }                # WHAT WANTED_CODE ACTION LOGIN_OPTION...
by_browser() { logs_in "${@:1:3}" authorization_uri "${@:4}" --browser --no-open; }            # WHAT WANTED_CODE ACTION LOGIN_OPTION...
# A login that the server refuses before or after a person was asked.
refuses() { # REASON by_device|by_browser WHAT WANTED_CODE ACTION LOGIN_OPTION...
    "${@:2}"
    names_reason "$3" "$1" "$work/login.err"
}
# A device login that no person answers, beside everything else.
# Its exit code is written to a file: it ends long before it is asked for, and a shell forgets the code of a process whose
# number another one of its processes gets.
is_forgotten() { # LOGIN_OPTION...
    {
        local code=0
        timeout "$limit_seconds" "$ONEGRANT" --profile forgotten login "$@" --device --json >"$work/forgotten" 2>"$work/forgotten.err" </dev/null || code=$?
        echo "$code" >"$work/forgotten.code"
    } &
}
forgotten_ends_with() { # WHAT WANTED_CODE REASON
    wait_until "$limit_seconds" test -s "$work/forgotten.code" || true
    check "$1: login ends with" "$2" "$(cat "$work/forgotten.code" || true)"
    names_reason "$1" "$3" "$work/forgotten.err"
}

# Waits until the access token has expired, and so many seconds more. No event tells it: the session ends at the second that
# it names.
expire() { # [SECONDS]
    onegrant status --json >"$work/status" 2>"$work/stderr" </dev/null || true
    has_member expires_at "$work/status" || give_up 'status --json does not name the end of the session' "$work/stderr"
    local over_at=$(($(cat "$work/member") + ${1:-0}))
    is_over() { [ "$(date +%s)" -gt "$over_at" ]; }
    wait_until $((over_at - $(date +%s) + 10)) is_over || give_up "the clock does not reach $over_at"
}
# A crowd on an expired session, and what it costs the server.
round() { # WHAT PROCESSES GRANT_TYPE WANTED_ANSWERS
    one_token "$1" "$2" onegrant token
    check "$1: $3 requests at the server so far" "$4" "$(answered "$3")"
}
alive() { # WHAT
    ends_with "$1: whoami" 0 onegrant whoami --json
    check "$1: whoami says" alice "$(member sub <"$work/stdout" || true)"
}
# A logout revokes and deletes; afterwards the server refuses both tokens.
logs_out() { # TOKEN_ENDPOINT USERINFO_ENDPOINT CLIENT_ID
    local access_token refresh_token
    # A new one: the stored one may end before the server sees it.
    access_token=$(onegrant refresh 2>/dev/null </dev/null || true)
    refresh_token=$(stored refresh_token)
    check 'userinfo before logout' 200 "$(bearer "$access_token" "$2")"
    revokes
    check 'userinfo after logout' 401 "$(bearer "$access_token" "$2")"
    check 'the revoked refresh token is' '400 invalid_grant' "$(
        http "$1" -d "grant_type=refresh_token&client_id=$3" --data-urlencode "refresh_token=$refresh_token" |
            sed -n 's/^\(...\) .*"error": *"\([a-z_]*\)".*/\1 \2/p'
    )"
}
revokes() {
    says_revoked() { grep -qiw revoked "$work/stdout" "$work/stderr" && ! grep -qiwE 'not|nothing|failed' "$work/stdout" "$work/stderr"; }
    ends_with 'logout' 0 onegrant logout
    check 'logout says revoked' yes "$(yes_or_no says_revoked)"
    check 'the document is there' no "$(yes_or_no [ -e "$work/home/$profile.json" ])"
    ends_with 'token after logout' 3 onegrant token
}

# An unknown refresh token of the confidential client, with its secret and with a wrong one.
refuses_imports() {
    imports() { echo unknown | onegrant login "$issuer" --refresh-token-stdin --client-id confidential --client-secret-file "$1"; }
    refused 'refresh token, wrong secret' 2 invalid_client imports "$work/wrong-secret"
    refused 'refresh token, unknown' 3 invalid_grant imports "$work/secret"
}
# A session with a refresh token that expires soon: the process that finds out asks twice before the verdict, and no later one asks.
refuses_an_expired_refresh_token() { # LOGIN_OPTION...
    profile=expired-token
    by_device 'a short session' 0 approve "$@"
    expire 3
    refused 'an expired refresh token: token' 3 invalid_grant onegrant token
    ends_with 'once more: token' 3 onegrant token
    check 'an expired refresh token: requests' '2 invalid_grant' "$(answered refresh_token)"
}

# Compares every request that a server of the script has had with the RFCs' parameter lists.
check_requests() { # SERVER_NAME KIND...
    issuer=$(member issuer <"$work/$1.json") sent >"$work/requests"
    checker "$1: the check of all requests" "$work/requests" "${@:2}"
}
check_the_checker() { checker 'the check of the checker' --self-test; }
checker() { # WHAT ARGUMENT...
    local code=0
    node "$fixtures/real_servers/check.mjs" "${@:2}" || code=$?
    check "$1 ends with" 0 "$code"
}
