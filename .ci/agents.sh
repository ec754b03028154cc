#!/usr/bin/env bash
# Runs the recipes of docs/agents.md with the real programs that npm has: Claude Code, Codex, opencode and gemini-cli, without an
# account and without a request to another machine. Each starts on an expired session: the server ends the grant on a replay, and
# takes no request without the new token. The recipes are read from the page; only the addresses are replaced.
#
# glab and himalaya: no registry that CI reaches has a version with these hooks as a program. tests/programs/agents.rs runs their
# lines, and all others, as their documentation says.
#
#   .ci/agents.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

claude_version=2.1.328
codex_version=0.169.0
opencode_version=1.18.33
gemini_version=0.61.0
crowd=5 # agents at once
page=$repository/docs/agents.md

begin curl npm node

step 'install the programs'
mkdir "$work/empty" "$work/person"
(cd "$work/empty" && timeout 300 npm install --prefix "$work/npm" --prefer-offline --no-audit --no-fund --silent \
    "@anthropic-ai/claude-code@$claude_version" "@openai/codex@$codex_version" "opencode-ai@$opencode_version" \
    "@google/gemini-cli@$gemini_version") >"$work/install" 2>&1 </dev/null || give_up 'npm install' "$work/install"

step 'start the servers, and log in'
authorization_server issuer
serve agents node "$fixtures/agents/server.mjs" "$issuer"
