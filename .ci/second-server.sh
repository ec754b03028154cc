#!/usr/bin/env bash
# The binary against a second real server, of another make and language (Django OAuth Toolkit), which differs where it
# matters: a refresh answers with the same refresh token and ends the access token before it, `slow_down` is enforced, an
# expired device code is answered with `expired_token`, and its metadata name neither a device nor a userinfo endpoint.
#
#   ONEGRANT=path/to/onegrant .ci/second-server.sh
#
# Needs bash and node; Python is installed where apt-get can be used. Writes into a temporary directory alone, and removes it.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"

crowd=20
lifetime_seconds=6 # a refresh and the crowd fit into it, also on a busy machine
secret='sec:ret/+%&' # stays itself only where it is form-encoded before it is base64 (RFC 6749 section 2.3.1)

begin

step 'install Django OAuth Toolkit'
need python3 python3 --version
need python3-venv python3 -c 'import ensurepip, venv'
{
    python3 -m venv "$work/venv" &&
        timeout 300 "$work/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
            --no-cache-dir -r "$fixtures/django_oauth_toolkit/requirements.txt"
} >"$work/pip" 2>&1 </dev/null || give_up 'pip install' "$work/pip"
printf '%s' "$secret" >"$work/secret"
printf 'wrong' >"$work/wrong-secret"
django() { # NAME SETTING...
    mkdir "$work/$1.database"
    serve "$1" env PYTHONDONTWRITEBYTECODE=1 "${@:2}" \
        "$work/venv/bin/python" "$fixtures/django_oauth_toolkit/server.py" "$work/$1.database"
}

step "start it twice: access tokens live $lifetime_seconds s; everything is short"
django short ACCESS_TOKEN_SECONDS=2 REFRESH_TOKEN_SECONDS=2 DEVICE_CODE_SECONDS=8 DEVICE_CODE_SAID_SECONDS=300 POLL_SECONDS=0
short=$issuer
of_short=("$short" --device-authorization-endpoint "$short/device-authorization/" --client-id device --scope openid)
is_forgotten "${of_short[@]}"
django toolkit ACCESS_TOKEN_SECONDS=$lifetime_seconds CLIENT_SECRET="$secret"
# What the metadata leave out.
endpoints=(--device-authorization-endpoint "$issuer/device-authorization/" --userinfo-endpoint "$issuer/userinfo/")
device=("$issuer" "${endpoints[@]}" --client-id device --scope openid)
browser=("$issuer" "${endpoints[@]}" --client-id browser --scope openid)

step 'device flow: a poll that comes too early is told to slow down, and the next ones do'
by_device 'device' 0 approve "${device[@]}"
check 'device: polls' '1 slow_down, 1 ok' "$(answered device_code)"
alive 'device'

step "wait for the expiry, then start $crowd processes at once"
old_refresh_token=$(stored refresh_token)
expire
round 'first round' $crowd refresh_token '1 ok'
alive 'first round'
check 'the refresh token is the same' yes "$(yes_or_no [ "$(stored refresh_token)" = "$old_refresh_token" ])"

step 'a refresh ends the access token before it'
old_access_token=$(stored access_token)
ends_with 'refresh' 0 onegrant refresh
check 'userinfo with the token before it' 401 "$(BEARER=$old_access_token http "$issuer/userinfo/" | cut -c 1-3)"
alive 'refresh'

step 'log out'
logs_out "$issuer/token/" "$issuer/userinfo/" device

step 'browser: the answer names its issuer (RFC 9207)'
profile=browser
by_browser 'browser' 0 approve "${browser[@]}"
alive 'browser'
ends_with 'browser: refresh' 0 onegrant refresh
revokes
profile=confidential
by_browser 'confidential browser' 0 approve "$issuer" "${endpoints[@]}" \
    --client-id confidential --client-secret-file "$work/secret" --scope openid
ends_with 'confidential: refresh' 0 onegrant refresh
revokes

step "a client on its own: $crowd processes, one request"
profile=service
service=("$issuer" --client-credentials --client-id service)
ends_with 'service: login' 0 onegrant login "${service[@]}" --client-secret-file "$work/secret" --scope api
expire
round 'service' $crowd client_credentials '2 ok'
revokes

step 'refusals'
profile=denied
refuses access_denied by_device 'device denied' 3 deny "${of_short[@]}"
refuses access_denied by_browser 'browser denied' 3 deny "${browser[@]}"
profile=refused
refuses invalid_request by_device 'device, unknown client' 2 nobody "$issuer" "${endpoints[@]}" --client-id stranger
refuses invalid_scope by_browser 'browser, scope refused' 2 approve "$issuer" "${endpoints[@]}" --client-id browser --scope nothing
refused 'client credentials, scope refused' 2 invalid_scope \
    onegrant login "${service[@]}" --client-secret-file "$work/secret" --scope nothing
refused 'client credentials, wrong secret' 2 invalid_client \
    onegrant login "${service[@]}" --client-secret-file "$work/wrong-secret"
refuses_imports

step 'expiry'
issuer=$short
forgotten_ends_with 'the server ends the code' 3 expired_token
check 'polls that were told so' '1 expired_token' "$(answered device_code | grep -o '[0-9]* expired_token' || true)"
refuses_an_expired_refresh_token "${of_short[@]}"

step 'every request'
check_the_checker
check_requests toolkit authorization device_authorization revocation userinfo \
    token:authorization_code token:client_credentials token:device_code token:refresh_token
check_requests short device_authorization token:device_code token:refresh_token

finish
