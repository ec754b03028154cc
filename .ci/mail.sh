#!/usr/bin/env bash
# Installs mail programs, and runs the recipes of docs/mail.md with them: git send-email, msmtp, mbsync, mutt, neomutt, aerc and
# curl log in at a mail server of the tests with a token of onegrant. The tests are in tests/programs/mail.rs. They have no network
# but loopback, if the system allows that.
#
# himalaya and imapsync are not run: npm, PyPI and Debian have neither.
#
#   .ci/mail.sh
set -euo pipefail
. "$(dirname "$0")/lib/checks.sh"

make_work

has_send_email() { [ -x "$(git --exec-path)/git-send-email" ]; }
has_xoauth2() { compgen -G '/usr/lib/*/sasl2/*oauth2*.so'; }
# One after the other, because two of them share packages.
for program in git perl curl msmtp mutt neomutt aerc; do need $program command -v $program; done
need git-email has_send_email
need libauthen-sasl-perl perl -MAuthen::SASL -e 1
need libio-socket-ssl-perl perl -MIO::Socket::SSL -e 1
need isync command -v mbsync
need libsasl2-modules-kdexoauth2 has_xoauth2
need bsdutils command -v script

printf '%s; Authen::SASL %s; %s; %s; %s; %s; %s; %s\n' "$(git --version)" \
    "$(perl -MAuthen::SASL -e 'print Authen::SASL->VERSION')" \
    "$(msmtp --version | head -n 1)" "$(mbsync --version)" "$(mutt -v | head -n 1)" "$(neomutt -v | head -n 1)" \
    "$(aerc -v)" "$(curl --version | head -n 1 | cut -d ' ' -f 1-2)"

cd "$repository"
cargo test --locked --quiet --test programs --no-run
own_loopback
"${own[@]}" cargo test --locked --offline --test programs mail:: -- --ignored
