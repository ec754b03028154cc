#!/usr/bin/env bash
# Proves that the AWS SDK for Python (boto3) and the AWS command line get credentials of a role from `onegrant helper aws`, and
# that AWS STS takes what they sign with them. The server that answers as STS does checks the signature of each request. Many
# processes at once cost one request for credentials, also if the ID token has expired.
#
#   .ci/aws.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

crowd=20
boto3_version=1.44.8
awscli_version=1.46.3
id_token_seconds=15 # of an ID token: some processes have to start meanwhile

begin python3

step 'install boto3 and the AWS command line'
python_packages "boto3==$boto3_version" "botocore==$boto3_version" "awscli==$awscli_version"
python=$work/venv/bin/python
aws=$work/venv/bin/aws

step 'start an authorization server and STS; log in'
authorization_server strict --sts --refreshes-id-tokens --id-token-lifetime "$id_token_seconds"
sts=$(member sts <"$work/strict.json")
ends_with login 0 onegrant login "${login_options[@]}" --scope 'openid offline_access'

# No setting of the caller has an effect here.
for variable in $(compgen -e); do case $variable in AWS_*) unset "$variable" ;; esac done
export HOME=$work AWS_CONFIG_FILE=$work/aws-config AWS_SHARED_CREDENTIALS_FILE=$work/none AWS_EC2_METADATA_DISABLED=true
export AWS_ENDPOINT_URL_STS=$sts NO_PROXY='*' no_proxy='*'
account=arn:aws:iam::123456789012
profile() { # NAME ROLE OPTION...
    printf '[profile %s]\nregion = eu-central-1\ncredential_process = "%s" helper aws --role-arn %s:role/%s %s\n' \
        "$1" "$ONEGRANT" "$account" "$2" "${*:3}" >>"$AWS_CONFIG_FILE"
}
profile deploy Deploy
profile short Deploy --session-name short --duration 900
profile late Deploy --session-name late
profile forbidden Forbidden

# Calls STS so many times with what the credential process of a profile gives.
cat >"$work/identity.py" <<'PY'
import sys
import boto3

profile, times = sys.argv[1:]
client = boto3.Session(profile_name=profile).client("sts")
for _ in range(int(times)):
    print(client.get_caller_identity()["Arn"])
PY
with_boto3() { timeout "$limit_seconds" "$python" "$work/identity.py" "$@"; } # PROFILE TIMES
with_aws() { timeout "$limit_seconds" "$aws" "$@"; }
answered() { grep -c "^$1 ok" "$work/strict.log" || true; } # ACTION
asked() { echo "$(answered AssumeRoleWithWebIdentity) and $(answered GetCallerIdentity)"; }
who=arn:aws:sts::123456789012:assumed-role/Deploy

step "boto3: $crowd processes at once"
together $crowd with_boto3 deploy 1
check 'boto3: processes that failed' 0 "$failures"
check 'boto3: who they are' "$crowd $who/onegrant" "$(cat "$work"/together/out.* | tally)"
check 'boto3: requests for credentials, and with them' "1 and $crowd" "$(asked)"

# The SDK asks for other credentials in their last fifteen minutes.
ends_with 'boto3: five calls with credentials that end soon' 0 with_boto3 short 5
check 'boto3: who it is' "5 $who/short" "$(tally <"$work/stdout")"
check 'boto3: requests for credentials, and with them' "2 and $((crowd + 5))" "$(asked)"

step 'the AWS command line'
ends_with 'aws sts get-caller-identity' 0 with_aws --profile deploy sts get-caller-identity --query Arn --output text
check 'aws: who it is' "$who/onegrant" "$(cat "$work/stdout")"
check 'requests for credentials, and with them' "2 and $((crowd + 6))" "$(asked)"

step "an ID token that has expired: $crowd processes at once"
mark
token_has_expired() { [ "$(date +%s)" -gt $((logged_in_at + id_token_seconds)) ]; }
logged_in_at=$(stat -c %Y "$ONEGRANT_HOME/default.json")
wait_until "$limit_seconds" token_has_expired || give_up 'the ID token does not expire'
together $crowd with_boto3 late 1
check 'boto3: processes that failed' 0 "$failures"
check 'boto3: who they are' "$crowd $who/late" "$(cat "$work"/together/out.* | tally)"
check 'requests for credentials, and with them' "3 and $((crowd * 2 + 6))" "$(asked)"
check_refreshes 'an ID token that has expired' 1

step 'what cannot be had'
fails() { ! with_boto3 "$1" 1 >"$work/stdout" 2>"$work/stderr" && grep -qF -- "$2" "$work/stderr"; } # PROFILE REASON
check 'boto3: a role that may not be assumed is named' yes "$(yes_or_no fails forbidden 'no credentials from AWS STS: status 403: AccessDenied: ')"
check 'boto3: and how to find out' yes "$(yes_or_no grep -qF 'hint: onegrant status' "$work/stderr")"
ends_with logout 0 onegrant logout
check 'what a logout leaves' default.lock "$(cd "$ONEGRANT_HOME" && ls -A | grep -v '~history$' | paste -sd ' ')"
check 'boto3: no credentials after a logout' yes "$(yes_or_no fails deploy 'profile default has no grant')"
fails_too() { ! with_aws --profile deploy sts get-caller-identity >"$work/stdout" 2>"$work/stderr" && grep -qF 'hint: onegrant login' "$work/stderr"; }
check 'aws: no credentials after a logout' yes "$(yes_or_no fails_too)"

finish
