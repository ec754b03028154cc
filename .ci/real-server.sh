#!/usr/bin/env bash
# The binary against a real, independent OpenID provider (npm oidc-provider), which ends the whole grant when a refresh
# token is replayed: each flow, crowds on an expired session, each refusal with its exit code, and every request against
# the RFCs' parameter lists.
#
#   ONEGRANT=path/to/onegrant .ci/real-server.sh
#
# Needs bash, node and npm. Writes into a temporary directory alone, and removes it.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"

crowd=50          # processes on a person's session
small_crowd=20    # processes on a client's own
lifetime_seconds=6 # a refresh and the crowd fit into it, also on a busy machine
secret='sec:ret/+%&' # stays itself only where it is form-encoded before it is base64 (RFC 6749 section 2.3.1)

begin npm

step 'install oidc-provider'
install_oidc_provider
mkdir "$work/keys"
printf '%s' "$secret" >"$work/secret"
printf 'wrong' >"$work/wrong-secret"

step "start it twice: access tokens live $lifetime_seconds s; everything is short, and requests must be pushed (RFC 9126)"
serve short env ACCESS_TOKEN_SECONDS=2 REFRESH_TOKEN_SECONDS=4 DEVICE_CODE_SECONDS=7 PUSHED=required node "$work/server/server.mjs"
short=$issuer
of_short=("$short" --client-id onegrant --scope 'openid offline_access')
is_forgotten "${of_short[@]}"
serve provider env ACCESS_TOKEN_SECONDS=$lifetime_seconds CLIENT_SECRET="$secret" KEYS="$work/keys" node "$work/server/server.mjs"
person=("$issuer" --client-id onegrant --scope 'openid offline_access')

step 'device flow'
by_device 'device' 0 approve "${person[@]}"
ends_with 'status' 0 onegrant status --json

step "wait for the expiry, then start $crowd processes at once"
expire
round 'first round' $crowd refresh_token '1 ok'
alive 'first round'

step 'is the session alive? the next expiry, the next refresh'
expire
round 'second round' $crowd refresh_token "$(($(answered_ok refresh_token) + 1)) ok"
alive 'second round'

step 'the same by claims alone, without any lock'
expire
ONEGRANT_LOCK=claim round 'claims alone' $crowd refresh_token "$(($(answered_ok refresh_token) + 1)) ok"
alive 'claims alone'

step 'log out'
logs_out "$issuer/token" "$issuer/me" onegrant

step 'a confidential client, whose secret holds what forms and Basic treat specially'
profile=confidential
confidential=("$issuer" --client-id confidential --client-secret-file "$work/secret" --scope 'openid offline_access')
by_device 'confidential' 0 approve "${confidential[@]}"
ends_with 'confidential: refresh' 0 onegrant refresh
alive 'confidential'
revokes

step 'browser'
profile=browser
by_browser 'browser' 0 approve "${person[@]}"
alive 'browser'
ends_with 'browser: refresh' 0 onegrant refresh
revokes
profile=confidential-browser
by_browser 'confidential browser' 0 approve "${confidential[@]}"
revokes

step "clients on their own: $small_crowd processes, one request"
service() { # NAME CLIENT_ID OPTION...
    profile=$1
    shift
    ends_with "$profile: login" 0 onegrant login "$issuer" --client-credentials --scope api --client-id "$@"
}
service basic service-basic --client-secret-file "$work/secret"
expire
round 'basic' $small_crowd client_credentials '2 ok'
service post service-post --client-secret-file "$work/secret" --client-auth post
ends_with 'post: refresh' 0 onegrant refresh
service es256 signs-es256 --client-auth private_key_jwt --client-key-file "$work/keys/ES256.pem" --client-key-id key-ES256
ends_with 'es256: refresh' 0 onegrant refresh
service rs256 signs-rs256 --client-auth private_key_jwt --client-key-file "$work/keys/RS256.pem" --client-key-id key-RS256
ends_with 'rs256: refresh' 0 onegrant refresh
revokes
check 'client_credentials requests at the server so far' '8 ok' "$(answered client_credentials)"

step 'refusals'
profile=denied
refuses access_denied by_device 'device denied' 3 deny "${person[@]}"
refuses access_denied by_browser 'browser denied' 3 deny "${person[@]}"
profile=refused
refuses invalid_scope by_device 'device, scope refused' 2 nobody "$issuer" --client-id narrow --scope 'openid api'
refuses invalid_scope by_browser 'browser, scope refused' 2 approve "$issuer" --client-id narrow --scope 'openid api'
refuses invalid_client by_device 'device, unknown client' 2 nobody "$issuer" --client-id stranger
refused 'client credentials, scope refused' 2 invalid_scope \
    onegrant login "$issuer" --client-credentials --client-id service-basic --client-secret-file "$work/secret" --scope openid
refused 'client credentials, wrong secret' 2 invalid_client \
    onegrant login "$issuer" --client-credentials --client-id service-basic --client-secret-file "$work/wrong-secret"
refuses_imports

step 'expiry'
issuer=$short
forgotten_ends_with 'nobody confirms the code' 3 expired_token
refuses_an_expired_refresh_token "${of_short[@]}"

step 'pushed authorization requests'
profile=pushed
by_browser 'pushed' 0 approve "${of_short[@]}"
refuses access_denied by_browser 'pushed, denied' 3 deny "${of_short[@]}"

step 'every request'
check_the_checker
check_requests provider authorization device_authorization revocation userinfo \
    token:authorization_code token:client_credentials token:device_code token:refresh_token
check_requests short authorization device_authorization pushed_authorization_request \
    token:authorization_code token:device_code token:refresh_token

finish
