#!/usr/bin/env bash
# Runs the recipes of docs/agents.md with the real Claude Code, Codex, opencode and gemini-cli of npm, without an account. Each of
# them meets an expired session: the server ends the grant on a replay, and no request without the new token is served. The
# recipes are those of the page; only the addresses are replaced. The programs have no network but loopback, if the system allows
# that.
#
# glab and himalaya are not run: npm, PyPI and Debian have no build of them with these options, and building one takes minutes.
# tests/programs/agents.rs runs their lines, and all others, as their documentation says.
#
#   .ci/agents.sh            installs the programs (420 MB from npm), then does the same as
#   .ci/agents.sh DIRECTORY  with the programs that npm installed there
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

claude_version=2.1.332
codex_version=0.171.0
opencode_version=1.18.33
gemini_version=0.61.0
crowd=4           # of each kind, at once
limit_seconds=180 # the programs are large, and a crowd of them shares the processors with other steps

begin curl npm node
export ONEGRANT
if [ $# = 0 ]; then
    step 'install the programs'
    case $(uname -m) in aarch64) arch=arm64 ;; *) arch=x64 ;; esac
    # The packages with the programs themselves. Those that people install hold a launcher in addition.
    (mkdir "$work/empty" && cd "$work/empty" && timeout 300 npm install --prefix "$work/npm" --ignore-scripts --omit=optional \
        --prefer-offline --no-audit --no-fund --silent "@anthropic-ai/claude-code-linux-$arch@$claude_version" \
        "@openai/codex@$codex_version-linux-$arch" "opencode-linux-$arch@$opencode_version" "@google/gemini-cli@$gemini_version") \
        >"$work/install" 2>&1 </dev/null || give_up 'npm install' "$work/install"
    : "${authorization_server:=$(executable authorization_server --example authorization_server)}"
    export authorization_server
    own_loopback
    code=0
    "${own[@]}" "$0" "$work/npm" || code=$?
    exit "$code"
fi

step 'start the servers'
authorization_server issuer --registration
issuer_url=$issuer
serve mcp node "$fixtures/agents/server.mjs" "$issuer_url" /mcp
mcp=$issuer
serve models node "$fixtures/agents/server.mjs" "$issuer_url" ''
models=$issuer
server=issuer # the requests that are counted
mcp_profile=127.0.0.1-${mcp##*:}
models_profile=127.0.0.1-${models##*:}

bin=$work/bin
person=$work/person
project=$person/project
mkdir -p "$bin" "$project" "$person"/{tmp,.claude,.codex,.gemini}
programs=$1/node_modules
ln -s "$ONEGRANT" "$bin/onegrant"
ln -s "$programs"/@anthropic-ai/claude-code-linux-*/claude "$bin/claude"
ln -s "$programs"/@openai/codex/vendor/*/bin/codex "$bin/codex"
ln -s "$programs"/opencode-linux-*/bin/opencode "$bin/opencode"
ln -s "$programs/.bin/gemini" "$bin/gemini"
printf '#!/bin/sh\nexec curl -fsSL "$1"\n' >"$work/browser"
chmod +x "$work/browser"

# Runs a line in the project of a person. What is no loopback would go to a proxy that is not there.
line() { # LINE
    (cd "$project" && exec env -i HOME="$person" TMPDIR="$person/tmp" PATH="$bin:$(dirname "$(command -v node)"):/usr/bin:/bin" ONEGRANT_HOME="$ONEGRANT_HOME" \
        BROWSER="$work/browser" CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 DISABLE_TELEMETRY=1 DISABLE_AUTOUPDATER=1 \
        DISABLE_ERROR_REPORTING=1 OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_MODELS_FETCH=1 OPENCODE_DISABLE_LSP_DOWNLOAD=1 \
        GEMINI_CLI_TRUST_WORKSPACE=true HTTPS_PROXY=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9 NO_PROXY=127.0.0.1 \
        timeout "$limit_seconds" bash -c "$1") </dev/null
}
# A block of the page, with the addresses of the servers here.
recipe() { # NAME
    block agents.md "$1" | sed "s|https://mcp.example.com|$mcp|g; s|https://models.example.com|$models|g"
}
counts() { curl -fsS --noproxy '*' "$1/counts" | jq -cS 'del(."without a token")'; } # SERVER
# The session of a profile is over. The requests are counted from here.
expired() { # PROFILE...
    local profile
    for profile; do
        change "$profile" "$as_expired"
    done
    mark
    counts "$mcp" >/dev/null
    counts "$models" >/dev/null
}
# The servers answered requests with a token to these endpoints, and refused none.
served() { # WHAT REFRESHES MCP_ENDPOINTS MODEL_ENDPOINTS
    check_refreshes "$1" "$2"
    check "$1: the MCP server served" "$3" "$(counts "$mcp" | jq -c keys)"
    check "$1: the model server served" "$4" "$(counts "$models" | jq -c keys)"
}
says() { grep -q 'what the model says' "$1" && echo yes || echo no; } # FILE

step 'log in with the addresses alone'
recipe login >"$work/login.sh"
ends_with 'login at the MCP server' 0 line "$(head -n 1 "$work/login.sh")"
ends_with 'the token for it' 0 line "$(tail -n 1 "$work/login.sh")"
check 'the token for it: it is the stored one' yes \
    "$(yes_or_no [ "$(cat "$work/stdout")" = "$(profile=$mcp_profile stored access_token)" ])"
ends_with 'login at the model server' 0 line "onegrant login $models"

step 'Claude Code: an MCP server'
recipe .mcp.json >"$project/.mcp.json"
# What a person has confirmed in the dialogs of Claude Code.
jq -n --arg project "$project" '{ projects: { ($project): { hasTrustDialogAccepted: true, enabledMcpjsonServers: ["example"] } } }' \
    >"$person/.claude.json"
expired "$mcp_profile"
ends_with 'claude mcp list' 0 line 'claude mcp list'
served 'claude mcp list' 1 '["mcp"]' '[]'
{ printf '{'; recipe '.mcp.json for every server'; printf '}'; } >"$work/line.json"
jq --slurpfile line "$work/line.json" '.mcpServers.example += $line[0]' "$project/.mcp.json" >"$work/mcp.json"
mv "$work/mcp.json" "$project/.mcp.json"
expired "$mcp_profile"
ends_with 'claude mcp list, with the line for every server' 0 line 'claude mcp list'
served 'claude mcp list, with the line for every server' 1 '["mcp"]' '[]'

step 'Claude Code: models'
recipe settings.json >"$person/.claude/settings.json"
expired "$mcp_profile" "$models_profile"
ends_with 'claude -p' 0 line "claude -p 'say something'"
check 'claude -p: the model answered' yes "$(says "$work/stdout")"
served 'claude -p' 2 '["mcp"]' '["messages"]'

step 'Codex: models, and an MCP server'
{ recipe config.toml; recipe 'config.toml for MCP'; } >"$person/.codex/config.toml"
# The options keep Codex from asking other machines for news, plugins and statistics.
codex="$(recipe codex) exec --skip-git-repo-check -c check_for_update_on_startup=false -c analytics.enabled=false \
    -c features.plugins=false -c features.apps=false 'say something'"
expired "$mcp_profile" "$models_profile"
ends_with 'codex exec' 0 line "$codex"
check 'codex exec: the model answered' yes "$(says "$work/stdout")"
served 'codex exec' 2 '["mcp"]' '["responses"]'

step 'opencode'
recipe opencode.json >"$project/opencode.json"
opencode="$(recipe opencode) mcp list"
expired "$mcp_profile"
ends_with 'opencode mcp list' 0 line "$opencode"
served 'opencode mcp list' 1 '["mcp"]' '[]'

step 'gemini-cli'
recipe 'gemini-cli settings.json' >"$person/.gemini/settings.json"
gemini="$(recipe gemini-cli) mcp list"
expired "$mcp_profile"
ends_with 'gemini mcp list' 0 line "$gemini"
served 'gemini mcp list' 1 '["mcp"]' '[]'

step "all of them at once, $crowd of each"
one_of_crowd() {
    case $((process % 3)) in
        0) line 'claude mcp list' ;;
        1) line "claude -p 'say something'" ;;
        2) line "$codex" ;;
    esac
}
expired "$mcp_profile" "$models_profile"
together $((3 * crowd)) one_of_crowd
check 'at once: programs that failed' 0 "$failures"
served 'at once' 2 '["mcp"]' '["messages","responses"]'

step 'a token that the server refuses'
expired
change "$mcp_profile" '.session.access_token = "refused"'
ends_with 'claude mcp list' 0 line 'claude mcp list'
served 'claude mcp list' 0 '["refused"]' '[]'
ends_with 'refresh' 0 line "$(recipe refresh)"
ends_with 'claude mcp list afterwards' 0 line 'claude mcp list'
served 'claude mcp list afterwards' 1 '["mcp"]' '[]'

step 'a login is required'
rm "$ONEGRANT_HOME/$models_profile".json
names_login() { grep -qF "onegrant login $models" "$work/stdout" "$work/stderr" && echo yes || echo no; }
ends_with 'claude -p' 1 line "claude -p 'say something'"
check 'claude -p: it names the command' yes "$(names_login)"
ends_with 'codex exec' 1 line "$codex"
check 'codex exec: it names the command' yes "$(names_login)"
finish
