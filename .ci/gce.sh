#!/usr/bin/env bash
# Proves that Google's own libraries take their tokens from `onegrant exec --serve tcp --as gce`, without a change: google-auth of
# PyPI, google-auth-library of npm and, if it is installed, gcloud. Each takes it for the metadata server of a virtual machine.
# An expired session costs one refresh for all processes. Another user of the machine gets nothing.
#
#   .ci/gce.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

google_auth_version=2.62.2
requests_version=2.34.2
google_auth_library_version=10.9.1
crowd=10      # processes at once
other_user=65534

begin curl npm node

step 'install the libraries'
python_packages "google-auth==$google_auth_version" "requests==$requests_version"
mkdir "$work/node"
(cd "$work/node" && timeout 300 npm install --ignore-scripts --prefer-offline --no-audit --no-fund --silent \
    "google-auth-library@$google_auth_library_version") >"$work/npm" 2>&1 </dev/null || give_up 'npm install' "$work/npm"
cat >"$work/node/client.mjs" <<'JS'
import { GoogleAuth } from 'google-auth-library';
const auth = new GoogleAuth();
const client = await auth.getClient();
console.log((await client.getAccessToken()).token);
console.log(client.constructor.name, (await auth.getCredentials()).client_email);
JS

step 'start an authorization server; log in'
authorization_server issuer --refreshes-id-tokens
client=$(member client_id <"$work/issuer.json")
userinfo=${issuer%/}/userinfo
ends_with login 0 onegrant login "${login_options[@]}" --scope 'openid offline_access'

# Serves until it is told to end. Its command writes down the environment that it got.
serving() {
    rm -f "$work/environment" "$work/end"
    mkfifo "$work/end"
    "$ONEGRANT" --profile "$profile" exec --serve tcp --as gce -- \
        sh -c 'env >"$1.new" && mv "$1.new" "$1" && exec cat "$2"' sh "$work/environment" "$work/end" \
        >"$work/serving" 2>&1 </dev/null &
    serving=$!
    wait_until "$limit_seconds" [ -e "$work/environment" ] || give_up 'exec --serve does not run its command' "$work/serving"
    metadata=http://$(sed -n 's/^GCE_METADATA_HOST=//p' "$work/environment")
}
serves_no_more() {
    : >"$work/end"
    waits_for 'exec' 0 "$serving"
    check 'the port is closed' no "$(yes_or_no curl -s --noproxy '*' -o /dev/null "$metadata/")"
}
# Runs a program as CMD would run it, with nothing of Google's in its environment or its home but the address of the broker.
inside() { # COMMAND...
    local variables place=$work/inside/${process:-0}
    mkdir -p "$place"
    mapfile -t variables < <(grep -E '^(GCE|ONEGRANT)_' "$work/environment")
    exec env -i HOME="$place" CLOUDSDK_CONFIG="$place/gcloud" PATH="${in_path:-/usr/bin:/bin}" NO_PROXY='*' "${variables[@]}" timeout "$limit_seconds" "$@"
}
google_auth() { inside "$work/venv/bin/python" "$fixtures/gce/client.py" "$@"; }
asks() { # WHAT WANTED PATH CURL_OPTION...
    check "$1" "$2" "$(curl -s -m "$limit_seconds" --noproxy '*' -o /dev/null -w '%{http_code}' "${@:4}" "$metadata/computeMetadata/v1/$3")"
}
account=instance/service-accounts/default
flavor=(-H 'Metadata-Flavor: Google')

step 'google-auth'
serving
mark
ends_with 'default' 0 google_auth token
check 'default: it has the stored access token' yes "$(yes_or_no [ "$(head -n 1 "$work/stdout")" = "$(stored access_token)" ])"
check 'default: its credentials' 'google.auth.compute_engine.credentials default@onegrant.invalid openid offline_access' "$(tail -n 1 "$work/stdout")"
ends_with 'a request' 0 google_auth request "$userinfo"
check 'a request: the server says' 200 "$(cat "$work/stdout")"
ends_with 'a request with a token that the server refuses' 0 google_auth refused "$userinfo"
check 'a refused token: google-auth asked for another one, and the server says' 200 "$(cat "$work/stdout")"
ends_with 'an ID token' 0 google_auth identity "$client"
check 'an ID token: it is the stored one' yes "$(yes_or_no [ "$(cat "$work/stdout")" = "$(stored id_token)" ])"
ends_with 'an ID token for another audience' 1 google_auth identity https://api.example
check 'another audience: the message says which one there is' yes "$(yes_or_no grep -qF "is for the audience $client, not for https://api.example" "$work/stderr")"
ends_with 'no project' 0 google_auth project
check 'no project' None "$(cat "$work/stdout")"
check_refreshes 'all of them' 0

step 'the library of Node.js'
ends_with 'node' 0 inside "$(command -v node)" "$work/node/client.mjs"
check 'node: it has the stored access token' yes "$(yes_or_no [ "$(head -n 1 "$work/stdout")" = "$(stored access_token)" ])"
check 'node: its credentials' 'Compute default@onegrant.invalid' "$(tail -n 1 "$work/stdout")"

step 'gcloud'
gcloud=no
command -v gcloud >/dev/null && gcloud=yes
if [ $gcloud = yes ]; then
    in_path=$PATH ends_with 'gcloud auth print-access-token' 0 inside gcloud auth print-access-token --quiet
    check 'gcloud: it prints the stored access token' yes "$(yes_or_no [ "$(cat "$work/stdout")" = "$(stored access_token)" ])"
    in_path=$PATH ends_with 'gcloud auth print-identity-token' 0 inside gcloud auth print-identity-token --quiet "--audiences=$client"
    check 'gcloud: it prints the stored ID token' yes "$(yes_or_no [ "$(cat "$work/stdout")" = "$(stored id_token)" ])"
else
    skip 'gcloud: not installed'
fi

step 'who is refused'
asks 'a request with the field' 200 $account/token "${flavor[@]}"
asks 'a request without it' 403 $account/token
asks 'a request through a proxy' 403 $account/token "${flavor[@]}" -H 'X-Forwarded-For: 192.0.2.1'
asks 'a POST' 405 $account/token "${flavor[@]}" -X POST
asks 'a name that leads to loopback' 403 $account/token "${flavor[@]}" -H 'Host: web.example'
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    as_another_user() { setpriv --reuid $other_user --regid $other_user --clear-groups curl -s -m "$limit_seconds" --noproxy '*' -w '%{http_code}' "${flavor[@]}" "$metadata$1"; }
    check 'another user, a token' 403 "$(as_another_user "/computeMetadata/v1/$account/token" | tail -c 3)"
    check 'another user, the ping' 403 "$(as_another_user / | tail -c 3)"
else
    skip 'another user: only root can be one'
fi

step 'the recipe of the page, where everything is set that comes before a metadata server'
mkdir "$work/bin"
ln -s "$ONEGRANT" "$work/bin/onegrant"
recipe() { # PROGRAM
    mkdir -p "$work/person"
    env -i HOME="$work/person" PATH="$work/bin:$PATH" ONEGRANT_HOME="$ONEGRANT_HOME" GOOGLE_CLOUD_PROJECT=example-1 HTTP_PROXY=http://127.0.0.1:1 \
        http_proxy=http://127.0.0.1:1 GOOGLE_APPLICATION_CREDENTIALS=/none NO_GCE_CHECK=true timeout "$limit_seconds" \
        bash -euc "$(block containers-and-ci.md gce | sed "/^onegrant login/,/--scope/d; s|\./program|$1|")" </dev/null
}
ends_with 'google-auth' 0 recipe "'$work/venv/bin/python' '$fixtures/gce/client.py' project"
check 'google-auth: the project' example-1 "$(cat "$work/stdout")"
if [ $gcloud = yes ]; then
    ends_with 'gcloud' 0 recipe 'gcloud config get project --quiet'
    check 'gcloud: the project' example-1 "$(cat "$work/stdout")"
fi

step 'a service refuses the stored token'
change default '.session.access_token = "refused"'
mark
ends_with 'google-auth' 0 google_auth request "$userinfo"
check 'google-auth: the server says' 401 "$(cat "$work/stdout")"
check_refreshes 'google-auth' 0
ends_with 'onegrant refresh, inside' 0 inside "$ONEGRANT" refresh
ends_with 'google-auth' 0 google_auth request "$userinfo"
check 'google-auth: the server says' 200 "$(cat "$work/stdout")"
check_refreshes 'together' 1

step "an expired session, and $crowd processes at once"
change default "$as_expired"
mark
together $crowd google_auth request "$userinfo"
check 'at once: processes that failed' 0 "$failures"
check 'at once: the server says' "$crowd 200" "$(cat "$work"/together/out.* | tally)"
check_refreshes 'at once' 1

step 'a dead grant'
change default "$as_expired | .session.refresh_token = \"unknown\""
ends_with 'google-auth' 1 google_auth token
check 'google-auth: it shows the message' yes "$(yes_or_no grep -q 'Status: 409 .*' "$work/stderr")"
check 'google-auth: the message names' 'invalid_grant' "$(grep -ow -m 1 invalid_grant "$work/stderr" | head -n 1 || true)"
check 'google-auth: the hint names' 'onegrant login' "$(grep -ow -m 1 'onegrant login' "$work/stderr" | head -n 1 || true)"
check 'google-auth: it asked again' 0 "$(grep -c 'on attempt' "$work/stderr" || true)"
serves_no_more
finish
