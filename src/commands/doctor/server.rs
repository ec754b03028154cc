//! The server, asked for its metadata alone: no credential is sent.

use super::{Check, token_host};
use crate::driver::Clock;
use crate::error::{Failure, Kind};
use crate::grant::{Document, UnixSeconds};
use crate::http::{HttpClient, HttpOutcome};
use crate::oauth::discovery::{self, Discovery, Step};
use crate::profile::Context;
use crate::protocol::metadata::{Metadata, Url, address_of};
use crate::protocol::{Request, Response};
use crate::text::{describe, printable};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// How far the clocks may be apart, in seconds: a session that was obtained by more than that in the future is not fresh.
const SKEW_WARN_SECONDS: UnixSeconds = 60;

/// From here on, in seconds, servers refuse assertions and ID tokens, and fresh access tokens look expired.
const SKEW_FAIL_SECONDS: UnixSeconds = 300;

/// The longest time that an answer of a cache is corrected by, in seconds: a year.
const LONGEST_AGE_SECONDS: u64 = 31_536_000;

/// What an address that does not answer costs, in words: the delay after which the next one is tried beside it.
const COST: &str = "a quarter of a second";

/// Proxy, addresses, TLS, discovery, clock.
pub fn checks(document: Option<&Document>, context: &Context) -> Vec<Check> {
    let client = HttpClient::new(&crate::environment::NetworkSettings::read());
    let Some(document) = document else {
        return vec![roots(&client, "no server is known yet")];
    };
    let address = match token_host(document) {
        Ok(address) => address,
        Err(failure) => return vec![Check::fail("endpoint", failure)],
    };
    let proxy = match client.way_to(&address) {
        Ok(way) => Check::ok("proxy", way),
        Err(failure) => {
            return vec![
                Check::fail("proxy", failure).hint("unset https_proxy HTTPS_PROXY all_proxy ALL_PROXY"),
            ];
        }
    };
    let scheme = if address.is_secure { "https" } else { "http" };
    let origin = format!("{scheme}://{}", address.host_and_port());
    let known = document.issuer.as_deref().filter(|_| !document.issuer_is_assumed);
    // Another host than the token endpoint's tells nothing of that one's TLS and clock.
    let is_elsewhere = |issuer: &&str| address_of(issuer).as_ref() != Some(&address);
    let mut visit = Visit { client: &client, context, skew: None };
    let reached = match known.filter(is_elsewhere) {
        Some(_) => visit.ask(&format!("{origin}/.well-known/oauth-authorization-server")).map(drop),
        None => Ok(()),
    };
    let discovered = reached.and_then(|()| visit.discover(known.unwrap_or(&origin)));
    let found = match discovered {
        Ok(found) => found,
        Err(failed) => {
            let hint = failed.hint.clone().unwrap_or_else(|| "onegrant --timeout 60 doctor".to_owned());
            let tls = Check::fail("tls", failed.hint(hint));
            return [proxy].into_iter().chain(addresses(&client, &address, context)).chain([tls]).collect();
        }
    };
    let host = address.host_and_port();
    let tls = match address.is_secure {
        true => roots(&client, &format!("{host} answers over TLS")),
        false => Check::ok("tls", format!("{host} answers over plain http, on this machine")),
    };
    let clock = clock(visit.skew);
    let addresses = addresses(&client, &address, context);
    let checks = [tls, discovery(known, document, found), clock];
    [proxy].into_iter().chain(addresses).chain(checks).collect()
}

/// The addresses of the server, or of the proxy before it, that do not answer, a line each: where another one answers, nothing
/// else shows them.
fn addresses(client: &HttpClient, address: &Url, context: &Context) -> Vec<Check> {
    const NAME: &str = "addresses";
    if address.is_loopback() {
        return Vec::new();
    }
    let (host, silent) = client.silent_addresses(address, context.left());
    let check = |(silent, error): (SocketAddr, io::Error)| match error.kind() {
        // As IPv6 on many networks: the attempt fails at once.
        ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => Check::ok(
            NAME,
            format!("{silent} of {host} cannot be reached from this machine, which costs nothing"),
        ),
        kind => {
            let what = match kind {
                ErrorKind::TimedOut => format!("does not answer, which costs {COST} where it is tried first"),
                _ => format!("cannot be reached: {}", describe(&error)),
            };
            Check::warn(NAME, printable(&format!("{silent} of {host} {what}")))
                .hint(format!("getent ahosts {host}   # shows the addresses that the name has here"))
        }
    };
    silent.into_iter().map(check).collect()
}

fn roots(client: &HttpClient, what: &str) -> Check {
    let (origin, warnings) = client.ca_roots();
    match warnings.first() {
        Some(warning) => Check::warn("tls", warning).hint("unset SSL_CERT_FILE SSL_CERT_DIR"),
        None => Check::ok("tls", format!("{what}; CA roots: {origin}")),
    }
}

/// What was found instead of metadata.
enum Found {
    Metadata(Box<Metadata>),
    Refused(Failure),
    Trouble(String),
    Nothing(String),
}

struct Visit<'a> {
    client: &'a HttpClient,
    context: &'a Context,
    /// By how much the server's clock is ahead, as its first answer told.
    skew: Option<UnixSeconds>,
}

impl Visit<'_> {
    /// The answer, or why there was none.
    fn ask(&mut self, url: &str) -> Result<Response, Failure> {
        let before = self.context.now().wall;
        let response =
            self.client.send(&Request::get(url), self.context.left()).and_then(HttpOutcome::response);
        let after = self.context.now().wall;
        match response {
            Ok(response) => {
                // A cache repeats the date of the answer that it keeps, and tells its age.
                let age = response.age().unwrap_or(0).min(LONGEST_AGE_SECONDS);
                let date = response.date().map(|date| date.saturating_add_unsigned(age));
                // Made some time between the two, and cut to whole seconds.
                let ahead =
                    |date: UnixSeconds| date.saturating_sub(date.clamp(before.saturating_sub(1), after));
                self.skew = self.skew.or(date.map(ahead));
                Ok(response)
            }
            Err(failure) => Err(failure),
        }
    }

    fn discover(&mut self, issuer: &str) -> Result<Found, Failure> {
        let mut found = None;
        let mut places = Vec::new();
        for step in Discovery::new(issuer, None, |url| self.ask(url))? {
            let Step { url, found: at_url } = step?;
            match at_url {
                discovery::Found::Metadata(metadata) => return Ok(Found::Metadata(metadata)),
                discovery::Found::Refused(failure) => found = Some(Found::Refused(failure)),
                discovery::Found::Nothing { why, is_temporary: true, .. } => {
                    found = Some(Found::Trouble(format!("{url} answers with {why}")));
                }
                discovery::Found::Nothing { why, .. } => places.push(format!("{url} ({why})")),
            }
        }
        Ok(found.unwrap_or_else(|| Found::Nothing(format!("no metadata at {}", places.join(", ")))))
    }
}

fn discovery(issuer: Option<&str>, document: &Document, found: Found) -> Check {
    const NAME: &str = "discovery";
    let Some(issuer) = issuer else {
        return Check::ok(NAME, "not checked: the endpoints were named at the login, and no issuer is known");
    };
    match found {
        Found::Metadata(metadata) => match changed(document, &metadata) {
            Some((name, url)) => {
                let what = format!("the server announces another {name} than the profile uses: {url}");
                Check::warn(NAME, what).hint("onegrant login")
            }
            None => Check::ok(NAME, format!("{issuer} announces the endpoints that the profile uses")),
        },
        Found::Refused(failure) => Check::fail(NAME, failure).hint("onegrant login"),
        Found::Trouble(what) => {
            Check::fail(NAME, Failure::new(Kind::Temporary, what).hint("onegrant doctor"))
        }
        Found::Nothing(what) => {
            Check::warn(NAME, what).hint("onegrant status   # shows the endpoints in use")
        }
    }
}

/// The first endpoint that is announced elsewhere now.
fn changed<'a>(document: &Document, metadata: &'a Metadata) -> Option<(&'static str, &'a str)> {
    let stored = [
        ("token_endpoint", Some(&document.token_endpoint), Some(&metadata.token_endpoint)),
        (
            "device_authorization_endpoint",
            document.device_authorization_endpoint.as_ref(),
            metadata.device_authorization_endpoint.as_ref(),
        ),
        (
            "authorization_endpoint",
            document.authorization_endpoint.as_ref(),
            metadata.authorization_endpoint.as_ref(),
        ),
        ("revocation_endpoint", document.revocation_endpoint.as_ref(), metadata.revocation_endpoint.as_ref()),
        ("userinfo_endpoint", document.userinfo_endpoint.as_ref(), metadata.userinfo_endpoint.as_ref()),
    ];
    stored.into_iter().find_map(|(name, ours, theirs)| match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => Some((name, theirs.as_str())),
        _ => None,
    })
}

fn clock(skew: Option<UnixSeconds>) -> Check {
    const NAME: &str = "clock";
    let Some(skew) = skew else {
        return Check::ok(NAME, "not checked: the server tells no time");
    };
    let seconds = skew.saturating_abs();
    let side = if skew > 0 { "behind" } else { "ahead of" };
    let what = format!("this machine's clock is {seconds} s {side} the server's");
    let hint = "sudo timedatectl set-ntp true   # or whatever sets this machine's clock";
    match seconds {
        SKEW_FAIL_SECONDS.. => Check::fail(NAME, Failure::new(Kind::Usage, what).hint(hint)),
        SKEW_WARN_SECONDS.. => Check::warn(NAME, what).hint(hint),
        0 => Check::ok(NAME, "as the server's"),
        _ => Check::ok(NAME, what),
    }
}
