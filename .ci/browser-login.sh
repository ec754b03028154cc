#!/usr/bin/env bash
# Proves the browser login with a real browser: Chromium without a window signs in at a real OpenID provider (npm
# oidc-provider), consents, and comes back to the page that onegrant itself shows.
#
#   .ci/browser-login.sh
#   KEEP=DIRECTORY .ci/browser-login.sh    keeps that page there, as page.png, page.html and page.txt
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"
. "$repository/.ci/lib/logins.sh"

limit_seconds=180 # a browser is large, and shares the processors with other steps

begin curl node npm

step 'install oidc-provider and Chromium'
need chromium chromium --version
chromium --version 2>/dev/null
node_packages oidc_provider
mkdir "$work/browser"

step 'start the server'
node_server provider oidc_provider ACCESS_TOKEN_SECONDS=600

step 'a person logs in'
by_browser browser 0 chromium "$issuer" --client-id onegrant --scope 'openid offline_access'
alive browser
check 'the page says that the tab can be closed' yes "$(yes_or_no grep -qi close "$work/browser/page.txt")"
# The page may be read over a shoulder, kept in a history or sent to a stranger.
check 'the page holds a code or a state' no "$(yes_or_no grep -qE 'code=|state=' "$work/browser/page.html")"
check 'the page asks other hosts for something' no "$(yes_or_no grep -qiE '(src|href|action)="?(https?:)?//|url\(' "$work/browser/page.html")"
sed 's/^/      /' "$work/browser/page.txt" 2>/dev/null || true
[ -z "${KEEP:-}" ] || cp "$work"/browser/page.* "$KEEP" || true

step 'every request'
check_requests provider authorization token:authorization_code userinfo

finish
