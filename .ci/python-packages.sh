#!/usr/bin/env bash
# Proves that pip and uv of PyPI get packages from a private index with a token of onegrant, which they ask for by the name
# `keyring`. Each way in which they ask meets an expired session; it costs one refresh, and many at once cost one. The password
# of another index comes from Python's keyring, which is the next program of that name.
#
#   .ci/python-packages.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

pip_version=26.3
old_pip_version=25.0 # it asks in the other way: see src/adapters/python_keyring.rs
uv_version=0.13.9
keyring_version=25.7.0
crowd=6 # programs at once

begin curl

step 'install pip, an older pip, uv and keyring'
python_packages "pip==$pip_version" "uv==$uv_version" "keyring==$keyring_version"
(python3 -m venv "$work/old" && timeout 300 "$work/old/bin/pip" install --quiet --disable-pip-version-check "pip==$old_pip_version") \
    >"$work/pip" 2>&1 </dev/null || give_up 'pip install pip' "$work/pip"

step 'start the servers'
authorization_server issuer
serve mine python3 "$fixtures/python_packages/index.py" token "$issuer"
mine=${issuer#http://}
serve other python3 "$fixtures/python_packages/index.py" password 'of the other index'
other=${issuer#http://}
server=issuer # the requests that are counted
mkdir "$work/own" "$work/next"
ln -s "$ONEGRANT" "$work/own/keyring"
ln -s "$work/venv/bin/keyring" "$work/next/keyring"

# Runs a program as a person does, who has onegrant in front of Python's keyring. Each call installs into a new place.
as_person() { # COMMAND...
    local place=$work/person/${process:-0}
    rm -rf "$place"
    mkdir -p "$place"
    cd "$place"
    exec env -i HOME="$place" TMPDIR="$place" PATH="$work/own${next:+:$next}:/usr/bin:/bin" ONEGRANT_HOME="$ONEGRANT_HOME" \
        PYTHONPATH="$fixtures/python_packages" PYTHONDONTWRITEBYTECODE=1 PYTHON_KEYRING_BACKEND=backend.Backend OTHER_INDEX="$other" PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 \
        PIP_NO_CACHE_DIR=1 UV_CACHE_DIR="$place/cache" NO_PROXY='*' timeout "$limit_seconds" "$@"
}
next=$work/next
with_pip() { # DIRECTORY_OF_PIP INDEX
    as_person "$1/bin/pip" install --no-input --keyring-provider subprocess --target target --index-url "$2" granted
}
with_uv() { # INDEX OPTION...
    as_person "$work/venv/bin/uv" pip install --python "$work/venv/bin/python" --keyring-provider subprocess --target target \
        --index-url "$1" "${@:2}" granted
}
# uv asks for a user name only for an index that says so.
with_uv_always() { # INDEX
    printf 'keyring-provider = "subprocess"\n[[index]]\nurl = "%s"\ndefault = true\nauthenticate = "always"\n' "$1" >"$work/uv.toml"
    as_person "$work/venv/bin/uv" pip install --python "$work/venv/bin/python" --config-file "$work/uv.toml" --target target granted
}
is_installed() { [ -e "$work/person/0/target/granted.py" ]; }
counts() { curl -fsS --noproxy '*' "http://$1/counts"; } # INDEX
# The session is over. The requests are counted from here.
expired() {
    change default "$as_expired"
    mark
    counts "$mine" >/dev/null
    counts "$other" >/dev/null
}
# The package was installed, with a token that the index took at once.
installs() { # WHAT USERNAME COMMAND...
    expired
    ends_with "$1" 0 "${@:3}"
    check "$1: installed" yes "$(yes_or_no is_installed)"
    check_refreshes "$1" 1
    check "$1: refused passwords, user names" "0 $2" "$(counts "$mine" | jq -r '"\(.refused) \(.users | join(","))"')"
}

step 'log in'
ends_with login 0 onegrant login "${login_options[@]}" --git-host "$mine"

step 'each way to ask, on an expired session'
installs 'pip' oauth2 with_pip "$work/venv" "http://$mine/simple/"
installs 'pip, with a user name' me with_pip "$work/venv" "http://me@$mine/simple/"
installs 'older pip' me with_pip "$work/old" "http://me@$mine/simple/"
installs 'uv' me with_uv "http://me@$mine/simple/"
installs 'uv, always' oauth2 with_uv_always "http://$mine/simple/"

step "$crowd of them at once on an expired session"
one_of_crowd() {
    case $((process % 3)) in
        0) with_pip "$work/venv" "http://$mine/simple/" ;;
        1) with_pip "$work/old" "http://me@$mine/simple/" ;;
        2) with_uv "http://me@$mine/simple/" ;;
    esac
}
expired
together $crowd one_of_crowd
check 'at once: programs that failed' 0 "$failures"
check_refreshes 'at once' 1
check 'at once: refused passwords' 0 "$(counts "$mine" | jq .refused)"

step 'another index: the password is in the keyring of Python'
from_other() { # WHAT COMMAND...
    expired
    ends_with "$1" 0 "${@:2}"
    check "$1: installed" yes "$(yes_or_no is_installed)"
    check_refreshes "$1" 0
    check "$1: refused passwords" 0 "$(counts "$other" | jq .refused)"
}
from_other 'pip at the other index' with_pip "$work/venv" "http://$other/simple/"
from_other 'older pip at the other index' with_pip "$work/old" "http://person@$other/simple/"
from_other 'uv at the other index' with_uv "http://person@$other/simple/"
from_other 'uv at the other index, always' with_uv_always "http://$other/simple/"

step 'without a keyring of Python, the other index gets nothing'
next=
expired
ends_with 'pip at the other index' 1 with_pip "$work/venv" "http://$other/simple/"
check 'pip at the other index: passwords' '0 0' "$(counts "$other" | jq -r '"\(.served) \(.refused)"')"
check_refreshes 'pip at the other index' 0

step 'a login is required'
rm "$ONEGRANT_HOME/default.json"
ends_with 'pip' 1 with_pip "$work/venv" "http://$mine/simple/"
check 'pip: it calls no keyring outdated' 0 "$(grep -ci 'keyring util is outdated' "$work/stderr" || true)"
ends_with 'older pip' 1 with_pip "$work/old" "http://me@$mine/simple/"
ends_with 'uv' 1 with_uv "http://me@$mine/simple/"
finish
