#!/usr/bin/env bash
# Proves that onegrant works with a real OpenID provider (npm oidc-provider), which ends the grant when a refresh token is
# replayed: each flow, crowds on an expired session, each refusal with its exit code, and every request against the RFCs'
# parameter lists.
#
#   .ci/oidc-provider.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"
. "$repository/.ci/lib/logins.sh"

large_crowd=50 # processes on a person's session

begin curl node npm

step 'install oidc-provider'
node_packages oidc_provider
mkdir "$work/keys"
make_secrets

step "start it twice: access tokens live $lifetime_seconds s; everything is short, and requests must be pushed (RFC 9126)"
node_server short oidc_provider ACCESS_TOKEN_SECONDS=2 REFRESH_TOKEN_SECONDS=4 DEVICE_CODE_SECONDS=30 PUSHED=required
short=$issuer
of_short=("$short" --client-id onegrant --scope 'openid offline_access')
is_forgotten "${of_short[@]}"
node_server provider oidc_provider ACCESS_TOKEN_SECONDS=$lifetime_seconds CLIENT_SECRET="$secret" KEYS="$work/keys"
person=("$issuer" --client-id onegrant --scope 'openid offline_access')

step 'device flow'
by_device device 0 approve "${person[@]}"
ends_with status 0 onegrant status --json

step "wait for the expiry, then start $large_crowd processes at once"
expire
round 'first round' $large_crowd refresh_token '1 ok'
alive 'first round'

step 'the session is alive at the next expiry, without any lock'
expire
ONEGRANT_LOCK=claim round 'claims alone' $large_crowd refresh_token "$(($(answered_ok refresh_token) + 1)) ok"
alive 'claims alone'

step 'and at a refresh after that, with the lock again'
ends_with 'third refresh' 0 onegrant refresh
alive 'third refresh'

step 'log out'
logs_out "$issuer/token" "$issuer/me" onegrant

step 'a confidential client with a secret of characters that forms and Basic treat specially'
profile=confidential
confidential=("$issuer" --client-id confidential --client-secret-file "$work/secret" --scope 'openid offline_access')
by_device confidential 0 approve "${confidential[@]}"
ends_with 'confidential: refresh' 0 onegrant refresh
alive confidential
revokes

step 'browser'
profile=browser
by_browser browser 0 approve "${person[@]}"
alive browser
ends_with 'browser: refresh' 0 onegrant refresh
revokes
profile=confidential-browser
by_browser 'confidential browser' 0 approve "${confidential[@]}"
revokes

step "clients on their own: $crowd processes, one request"
service() { # NAME CLIENT_ID OPTION...
    profile=$1
    ends_with "$1: login" 0 onegrant login "$issuer" --client-credentials --scope api --client-id "${@:2}"
}
service basic service-basic --client-secret-file "$work/secret"
expire
round basic "$crowd" client_credentials '2 ok'
service post service-post --client-secret-file "$work/secret" --client-auth post
ends_with 'post: refresh' 0 onegrant refresh
for algorithm in ES256 RS256; do
    service "$algorithm" "signs-${algorithm,,}" --client-auth private_key_jwt --client-key-file "$work/keys/$algorithm.pem" \
        --client-key-id "key-$algorithm"
    ends_with "$algorithm: refresh" 0 onegrant refresh
done
revokes
check 'client_credentials requests at the server so far' '8 ok' "$(answered client_credentials)"

step 'refusals'
profile=denied
refuses access_denied by_device 'device denied' 3 deny "${person[@]}"
refuses access_denied by_browser 'browser denied' 3 deny "${person[@]}"
profile=refused
refuses invalid_scope by_device 'device, scope refused' 2 none "$issuer" --client-id narrow --scope 'openid api'
refuses invalid_scope by_browser 'browser, scope refused' 2 approve "$issuer" --client-id narrow --scope 'openid api'
refuses invalid_client by_device 'device, unknown client' 2 none "$issuer" --client-id stranger
basic=("$issuer" --client-credentials --client-id service-basic)
refused 'client credentials, scope refused' 2 invalid_scope \
    onegrant login "${basic[@]}" --client-secret-file "$work/secret" --scope openid
refused 'client credentials, wrong secret' 2 invalid_client \
    onegrant login "${basic[@]}" --client-secret-file "$work/wrong-secret"
refuses_imports

step 'expiry'
issuer=$short
forgotten_ends_with 'a code that no person confirms' 3 expired_token
refuses_an_expired_refresh_token "${of_short[@]}"

step 'pushed authorization requests'
profile=pushed
by_browser pushed 0 approve "${of_short[@]}"
refuses access_denied by_browser 'pushed, denied' 3 deny "${of_short[@]}"

step 'every request'
check_the_checker
check_requests provider authorization device_authorization revocation userinfo \
    token:authorization_code token:client_credentials token:device_code token:refresh_token
check_requests short authorization device_authorization pushed_authorization_request \
    token:authorization_code token:device_code token:refresh_token

finish
