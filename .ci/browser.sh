#!/usr/bin/env bash
# The browser login with a real browser, Chromium without a window: it signs in at a real OpenID provider (npm
# oidc-provider), consents, and comes back to the page that onegrant itself shows.
#
#   ONEGRANT=path/to/onegrant .ci/browser.sh
#   KEEP=DIRECTORY ...   keeps that page there, as page.png, page.html and page.txt
#
# Needs bash, node and npm; Chromium is installed where apt-get can be used. Writes into a temporary directory alone, and
# removes it.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"

begin npm

step 'install oidc-provider and Chromium'
need chromium chromium --version
chromium --version 2>/dev/null
install_oidc_provider
mkdir "$work/browser"

step 'start the server'
serve provider env ACCESS_TOKEN_SECONDS=600 node "$work/server/server.mjs"
person=("$issuer" --client-id onegrant --scope 'openid offline_access')

step 'a person logs in'
by_browser 'browser' 0 chromium "${person[@]}"
alive 'browser'
check 'the page says that the tab can be closed' yes "$(yes_or_no grep -qi 'close' "$work/browser/page.txt")"
# A page that is read over a shoulder, kept in a history or sent to a stranger: the code must not be in it, and nothing is
# asked of other hosts.
check 'the page holds no code and no state' no "$(yes_or_no grep -qE 'code=|state=' "$work/browser/page.html")"
check 'the page asks for nothing elsewhere' no "$(yes_or_no grep -qiE '(src|href|action)="?(https?:)?//|url\(' "$work/browser/page.html")"
sed 's/^/      /' "$work/browser/page.txt" 2>/dev/null || true
[ -z "${KEEP:-}" ] || cp "$work"/browser/page.* "$KEEP" || true

step 'every request'
check_requests provider authorization token:authorization_code userinfo

finish
