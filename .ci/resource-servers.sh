#!/usr/bin/env bash
# Proves that the address of a protected resource is enough for a login, at three servers of other projects: the MCP
# TypeScript SDK, FastMCP, and npm oidc-provider with a resource beside it. At each: discovery and registration, a crowd on
# an expired session, logout. At the last one: a client identifier that is an address, and a client that the server forgot.
#
#   .ci/resource-servers.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"
. "$repository/.ci/lib/logins.sh"

crowd=50 # processes at once
initialize='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"check","version":"1"}}}'

begin curl node npm

# Every command but a login finds its profile by the resource.
onegrant() { timeout "$limit_seconds" "$ONEGRANT" --for "$resource" "$@"; }
port() { # ADDRESS
    local authority=${1#http://}
    authority=${authority%%/*}
    echo "${authority##*:}"
}
# Starts a server and sets `resource`, `host` (the name of its profile) and `serving` (its process).
serves_a_resource() { # COMMAND NAME ARGUMENT...
    "$@"
    serving=$!
    resource=$(member resource <"$work/$2.json")
    host=127.0.0.1-$(port "$resource")
}
# Requests of a kind at the server, by their answers: "1 201".
answers() { # KIND
    sent | jq -r --arg kind "$1" 'select(.endpoint == $kind) | .error // .status' | tally
}
# Logs in with the address of the resource and what the test adds, but without a name for the profile.
by_address() { # by_browser|by_device WHAT LOGIN_OPTION...
    local before
    before=$(sent | wc -l)
    profile=
    "$1" "$2" 0 approve "$resource" "${@:3}"
    profile=$host
    check "$2: the profile is" "$host" "$(member profile <"$work/login" || true)"
    asked_first=$(sent | tail -n "+$((before + 1))" | jq -r .endpoint | sed '/authorization$/,$d' | paste -sd ' ')
}
# What the resource answers: 200 to a token, 401 to one that it does not take. Every resource of these takes an MCP message.
takes() { # TOKEN
    http "$resource" -H "Authorization: Bearer $1" -H 'Content-Type: application/json' \
        -H 'Accept: application/json, text/event-stream' -d "$initialize" | cut -c 1-3
}
crowd_at_resource() { # WHAT WANTED_ANSWERS
    expire
    round "$1" "$crowd" refresh_token "$2"
    check "$1: the resource, with the token of the crowd" 200 "$(takes "$(cat "$work/together/out.1")")"
}
# A logout, after which the server refuses both tokens.
logs_out_here() { # WANTED_ANSWER_TO_THE_REFRESH_TOKEN
    local access_token refresh_token client_id
    # A new one: the stored one may end before the resource sees it.
    access_token=$(onegrant refresh 2>/dev/null </dev/null || true)
    refresh_token=$(stored refresh_token)
    client_id=$(stored client_id)
    check 'the resource before the logout' 200 "$(takes "$access_token")"
    revokes
    check 'the resource after the logout' 401 "$(takes "$access_token")"
    check 'the revoked refresh token' "$1" "$(
        http "${issuer%/}/token" -d grant_type=refresh_token --data-urlencode "refresh_token=$refresh_token" \
            --data-urlencode "client_id=$client_id" --data-urlencode "resource=$resource" |
            sed -n 's/^\(...\) .*"error": *"\([a-z_]*\)".*/\1 \2/p'
    )"
}
# All that the steps have in common.
whole_life() { # WANTED_ANSWER_TO_THE_REVOKED_REFRESH_TOKEN
    ends_with "$server: doctor" 0 timeout "$limit_seconds" "$ONEGRANT" doctor "$resource"
    check "$server: registrations" none "$(answers registration)"
    by_address by_browser "$server"
    check "$server: requests before the browser" 'probe resource_metadata issuer_metadata registration' "$asked_first"
    check "$server: the resource, with the token" 200 "$(takes "$(onegrant token)")"
    check "$server: the resource, with another one" 401 "$(takes another)"
    crowd_at_resource "$server, first round" '1 ok'
    crowd_at_resource "$server, second round" '2 ok'
    logs_out_here "$1"
    check "$server: registrations" '1 201' "$(answers registration)"
}
# Each request for a code or a token names the resource (RFC 8707 section 2).
check_resource() { # KIND...
    check "$server: requests without the resource" none "$(
        sent | jq -r --arg resource "$resource" 'select((.endpoint == "authorization" or .endpoint == "token")
            and .values.resource != $resource) | .values.grant_type // .endpoint' | tally
    )"
    check_requests "$server" probe resource_metadata issuer_metadata registration authorization token:authorization_code \
        token:refresh_token revocation "$@"
}

step 'install the servers'
node_packages mcp_sdk
node_packages oidc_provider
python_packages --require-hashes -r "$fixtures/fastmcp/requirements.txt"
check_the_checker

step "the MCP TypeScript SDK: access tokens live $lifetime_seconds s"
serves_a_resource node_server mcp-sdk mcp_sdk ACCESS_TOKEN_SECONDS=$lifetime_seconds
whole_life '400 invalid_grant'
check_resource

step 'FastMCP: it refuses a refresh token with status 401'
serves_a_resource serve fastmcp env PYTHONDONTWRITEBYTECODE=1 ACCESS_TOKEN_SECONDS=$lifetime_seconds \
    "$work/venv/bin/python" "$fixtures/fastmcp/server.py"
whole_life '401 invalid_grant'
check_resource

step 'oidc-provider: the resource has another origin, and a logout removes the client (RFC 7592)'
serve site node "$fixtures/real_servers/client.mjs"
client_site=$issuer client_document=$(member client_id <"$work/site.json")
settings=(ACCESS_TOKEN_SECONDS="$lifetime_seconds" NODE_EXTRA_CA_CERTS="$fixtures/tls/ca.pem")
serves_a_resource node_server oidc oidc_provider "${settings[@]}"
whole_life '401 invalid_client'
check 'registrations that the logout removed' '1 204' "$(answers client_configuration)"

step 'a client identifier that is an address: the server fetches its document, and nothing is registered'
by_address by_browser 'client document' --client-metadata-url "$client_document"
check 'requests before the browser' 'probe resource_metadata issuer_metadata' "$asked_first"
check 'the client is' "$client_document" "$(stored client_id)"
check 'the document was fetched' 1 "$(curl -s -m 10 --noproxy '*' --cacert "$fixtures/tls/ca.pem" "${client_site}requests")"
crowd_at_resource 'client document' '1 invalid_client, 4 ok'
logs_out_here '400 invalid_grant'
check 'registrations' '1 201' "$(answers registration)"
check 'registrations that the logout removed' '1 204' "$(answers client_configuration)"

step 'device flow of a registered client'
by_address by_device device
check 'requests before the code' 'probe resource_metadata issuer_metadata registration' "$asked_first"
logs_out_here '401 invalid_client'
check 'registrations' '2 201' "$(answers registration)"
check 'registrations that the logout removed' '2 204' "$(answers client_configuration)"

step 'a client that the server forgot: it says so on its own page, and the login after that one registers again'
by_address by_browser 'known client'
check_resource client_configuration
kill "$serving"
wait "$serving" || true
serves_a_resource node_server restarted oidc_provider "${settings[@]}" PORT="$(port "$issuer")" RESOURCE_PORT="$(port "$resource")"
forgotten_client=$(stored client_id)
expire
refused 'forgotten client: token' 3 invalid_client onegrant token
check 'the hint names' "onegrant --profile $host login --register" "$(grep -o 'onegrant --profile .* login --register' "$work/stderr" || true)"
check 'the session is kept' yes "$(yes_or_no [ "$(stored refresh_token)" != none ])"
profile=
asks_a_person approve authorization_uri "$resource" --browser --no-open
kill "$login"
waits_for 'a login that did not come back' 143 "$login"
check 'registrations' none "$(answers registration)"
by_address by_browser 'the next login'
check 'requests before the browser' 'probe resource_metadata issuer_metadata registration' "$asked_first"
check 'the client is another one' yes "$(yes_or_no [ "$(stored client_id)" != "$forgotten_client" ])"
crowd_at_resource 'the next login' '1 invalid_client, 1 ok'
logs_out_here '401 invalid_client'
check_resource client_configuration

finish
