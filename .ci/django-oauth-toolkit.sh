#!/usr/bin/env bash
# Proves that onegrant works with a second real server (Django OAuth Toolkit), which differs from the first one: a refresh
# answers with the same refresh token and ends the access token before it, it enforces `slow_down`, it answers an expired
# device code with `expired_token`, and its metadata name neither a device nor a userinfo endpoint.
#
#   .ci/django-oauth-toolkit.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"
. "$repository/.ci/lib/logins.sh"

begin curl node

step 'install Django OAuth Toolkit'
python_packages --require-hashes -r "$fixtures/django_oauth_toolkit/requirements.txt"
make_secrets
django() { # NAME SETTING...
    mkdir "$work/$1.database"
    serve "$1" env PYTHONDONTWRITEBYTECODE=1 "${@:2}" \
        "$work/venv/bin/python" "$fixtures/django_oauth_toolkit/server.py" "$work/$1.database"
}

step "start it twice: access tokens live $lifetime_seconds s; everything is short"
django short ACCESS_TOKEN_SECONDS=2 REFRESH_TOKEN_SECONDS=2 DEVICE_CODE_SECONDS=30 DEVICE_CODE_SAID_SECONDS=300 POLL_SECONDS=0
short=$issuer
of_short=("$short" --device-authorization-endpoint "$short/device-authorization/" --client-id device --scope openid)
is_forgotten "${of_short[@]}"
django toolkit ACCESS_TOKEN_SECONDS=$lifetime_seconds POLL_SECONDS=5 CLIENT_SECRET="$secret"
# What the metadata leave out.
endpoints=(--device-authorization-endpoint "$issuer/device-authorization/" --userinfo-endpoint "$issuer/userinfo/")
device=("$issuer" "${endpoints[@]}" --client-id device --scope openid)
browser=("$issuer" "${endpoints[@]}" --client-id browser --scope openid)

step 'device flow: a poll that comes too early is answered with slow_down, and the next ones come later'
# The first poll comes after a second, which is too early, and the next one after six more. A person may take longer than that.
by_device 'device' 0 approve "${device[@]}"
check 'device: polls' '1 ok, 1 slow_down' "$(answered device_code | sed 's/^[0-9]* authorization_pending, //')"
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
check 'userinfo with the token before it' 401 "$(bearer "$old_access_token" "$issuer/userinfo/")"
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
refuses invalid_request by_device 'device, unknown client' 2 none "$issuer" "${endpoints[@]}" --client-id stranger
refuses invalid_scope by_browser 'browser, scope refused' 2 approve "$issuer" "${endpoints[@]}" --client-id browser --scope nothing
refused 'client credentials, scope refused' 2 invalid_scope \
    onegrant login "${service[@]}" --client-secret-file "$work/secret" --scope nothing
refused 'client credentials, wrong secret' 2 invalid_client \
    onegrant login "${service[@]}" --client-secret-file "$work/wrong-secret"
refuses_imports

step 'expiry'
issuer=$short
forgotten_ends_with 'the server ends the code' 3 expired_token
check 'polls that were answered so' '1 expired_token' "$(answered device_code | grep -o '[0-9]* expired_token' || true)"
refuses_an_expired_refresh_token "${of_short[@]}"

step 'every request'
check_the_checker
check_requests toolkit authorization device_authorization revocation userinfo \
    token:authorization_code token:client_credentials token:device_code token:refresh_token
check_requests short device_authorization token:device_code token:refresh_token

finish
