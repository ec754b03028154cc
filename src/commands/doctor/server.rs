//! The server: proxy, addresses, TLS, metadata and clock. It is asked only for metadata, without a credential.

use super::{Check, token_host};
use crate::driver::Clock;
use crate::error::{Failure, Kind};
use crate::grant::{Document, UnixSeconds};
use crate::http::{HttpClient, HttpOutcome};
use crate::oauth::discovery::{Discovery, DiscoveryResult, DiscoveryStep};
use crate::profile::Context;
use crate::protocol::metadata::{Metadata, Url, address_of};
use crate::protocol::{Request, Response};
use crate::text::{describe, printable};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// The difference between the clocks that is warned about, in seconds: a session that was obtained later than that in the
/// future is not fresh.
const SKEW_WARN_SECONDS: UnixSeconds = 60;

/// The difference that fails, in seconds: servers refuse assertions and ID tokens, and fresh access tokens look expired.
const SKEW_FAIL_SECONDS: UnixSeconds = 300;

/// The largest `Age` that is believed, in seconds: a year.
const LONGEST_AGE_SECONDS: u64 = 31_536_000;

/// The delay that a silent address causes, in words: after it the next address is tried as well (RFC 8305).
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
    // The host of the issuer says nothing about TLS and clock of another host, the one of the token endpoint.
    let is_elsewhere = |issuer: &&str| address_of(issuer).as_ref() != Some(&address);
    let mut questions = Questions { client: &client, context, skew: None };
    let reached = match known.filter(is_elsewhere) {
        Some(_) => questions.ask(&format!("{origin}/.well-known/oauth-authorization-server")).map(drop),
        None => Ok(()),
    };
    let discovered = reached.and_then(|()| questions.discover(known.unwrap_or(&origin)));
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
    let clock = clock(questions.skew);
    let addresses = addresses(&client, &address, context);
    let checks = [tls, discovery(known, document, found), clock];
    [proxy].into_iter().chain(addresses).chain(checks).collect()
}

/// The addresses of the server, or of its proxy, that do not answer, one line each. If another address answers, nothing else
/// shows them.
fn addresses(client: &HttpClient, address: &Url, context: &Context) -> Vec<Check> {
    const NAME: &str = "addresses";
    if address.is_loopback() {
        return Vec::new();
    }
    let (host, silent) = client.silent_addresses(address, context.left());
    let check = |(silent, error): (SocketAddr, io::Error)| match error.kind() {
        // Usual for IPv6 on many networks: the attempt fails at once.
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

/// The result of the discovery.
enum MetadataResult {
    Found(Box<Metadata>),
    /// Metadata that must not be used.
    Refused(Failure),
    /// The server may have metadata, and does not give it now.
    Unavailable(String),
    Nothing(String),
}

/// The requests of one check, and what their answers show about the clock.
struct Questions<'a> {
    client: &'a HttpClient,
    context: &'a Context,
    /// By how many seconds the clock of the server is ahead, by its first answer with a date.
    skew: Option<UnixSeconds>,
}

impl Questions<'_> {
    /// Sends a request, and compares the clocks.
    fn ask(&mut self, url: &str) -> Result<Response, Failure> {
        let before = self.context.now().wall;
        let response =
            self.client.send(&Request::get(url), self.context.left()).and_then(HttpOutcome::response);
        let after = self.context.now().wall;
        match response {
            Ok(response) => {
                // A cache repeats the date of the stored answer, and adds its age.
                let age = response.age().unwrap_or(0).min(LONGEST_AGE_SECONDS);
                let date = response.date().map(|date| date.saturating_add_unsigned(age));
                // The server made the answer between the two times. Its date has whole seconds.
                let ahead =
                    |date: UnixSeconds| date.saturating_sub(date.clamp(before.saturating_sub(1), after));
                self.skew = self.skew.or(date.map(ahead));
                Ok(response)
            }
            Err(failure) => Err(failure),
        }
    }

    fn discover(&mut self, issuer: &str) -> Result<MetadataResult, Failure> {
        let mut found = None;
        let mut places = Vec::new();
        for step in Discovery::new(issuer, None, |url| self.ask(url))? {
            let DiscoveryStep { url, found: at_url } = step?;
            match at_url {
                DiscoveryResult::Metadata(metadata) => return Ok(MetadataResult::Found(metadata)),
                DiscoveryResult::Refused(failure) => found = Some(MetadataResult::Refused(failure)),
                DiscoveryResult::Nothing { why, is_temporary: true, .. } => {
                    found = Some(MetadataResult::Unavailable(format!("{url} answers with {why}")));
                }
                DiscoveryResult::Nothing { why, .. } => places.push(format!("{url} ({why})")),
            }
        }
        Ok(found.unwrap_or_else(|| MetadataResult::Nothing(format!("no metadata at {}", places.join(", ")))))
    }
}

fn discovery(issuer: Option<&str>, document: &Document, found: MetadataResult) -> Check {
    const NAME: &str = "discovery";
    let Some(issuer) = issuer else {
        return Check::ok(NAME, "not checked: the endpoints were named at the login, and no issuer is known");
    };
    match found {
        MetadataResult::Found(metadata) => match changed(document, &metadata) {
            Some((name, url)) => {
                let what = format!("the server announces another {name} than the profile uses: {url}");
                Check::warn(NAME, what).hint("onegrant login")
            }
            None => Check::ok(NAME, format!("{issuer} announces the endpoints that the profile uses")),
        },
        MetadataResult::Refused(failure) => Check::fail(NAME, failure).hint("onegrant login"),
        MetadataResult::Unavailable(what) => {
            Check::fail(NAME, Failure::new(Kind::Temporary, what).hint("onegrant doctor"))
        }
        MetadataResult::Nothing(what) => {
            Check::warn(NAME, what).hint("onegrant status   # shows the endpoints in use")
        }
    }
}

/// The first endpoint that the server announces at another address than the profile uses.
fn changed<'a>(document: &Document, metadata: &'a Metadata) -> Option<(&'static str, &'a str)> {
    let stored = [
        ("token_endpoint", Some(&document.token_endpoint), Some(&metadata.endpoints.token)),
        (
            "device_authorization_endpoint",
            document.device_authorization_endpoint.as_ref(),
            metadata.endpoints.device_authorization.as_ref(),
        ),
        (
            "authorization_endpoint",
            document.authorization_endpoint.as_ref(),
            metadata.endpoints.authorization.as_ref(),
        ),
        (
            "revocation_endpoint",
            document.revocation_endpoint.as_ref(),
            metadata.endpoints.revocation.as_ref(),
        ),
        ("userinfo_endpoint", document.userinfo_endpoint.as_ref(), metadata.endpoints.userinfo.as_ref()),
    ];
    stored.into_iter().find_map(|(name, ours, theirs)| match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => Some((name, theirs.as_str())),
        _ => None,
    })
}

fn clock(skew: Option<UnixSeconds>) -> Check {
    const NAME: &str = "clock";
    let Some(skew) = skew else {
        return Check::ok(NAME, "not checked: the answer has no date");
    };
    let seconds = skew.saturating_abs();
    let side = if skew > 0 { "behind" } else { "ahead of" };
    let what = format!("this machine's clock is {seconds} s {side} the server's");
    let hint = "sudo timedatectl set-ntp true   # or another way to set this machine's clock";
    match seconds {
        SKEW_FAIL_SECONDS.. => Check::fail(NAME, Failure::new(Kind::Usage, what).hint(hint)),
        SKEW_WARN_SECONDS.. => Check::warn(NAME, what).hint(hint),
        0 => Check::ok(NAME, "as the server's"),
        _ => Check::ok(NAME, what),
    }
}
