//! The proxy of a request, by the rules of curl: `https_proxy`, else `all_proxy`, unless `no_proxy` names the host.
//! Loopback is always reached directly. ureq's own reading of the environment is not used, because it takes any of the
//! variables for any scheme, and ignores a proxy that it cannot use.

use crate::environment::{NetworkSettings, Setting};
use crate::error::{Failure, Kind};
use crate::protocol::metadata::{Url, address_of};
use crate::text::printable;

/// The proxy for this address. It is a failure if the proxy cannot be used: such a request is never sent directly. The
/// failure shows the name of the variable, and not its value, which may hold a password.
pub fn proxy_for(address: &Url, environment: &NetworkSettings) -> Result<Option<ureq::Proxy>, Failure> {
    if address.is_loopback() || !address.is_secure || is_direct(address, environment.no_proxy.as_ref()) {
        return Ok(None);
    }
    let Some(setting) = environment.https_proxy.as_ref().or(environment.all_proxy.as_ref()) else {
        return Ok(None);
    };
    let refuse = |why: &str| {
        let message = format!("cannot use the proxy in {}: {why}", setting.variable);
        Err(Failure::new(Kind::Usage, message))
    };
    let value = &setting.value;
    let url = if value.contains("://") { value.clone() } else { format!("http://{value}") };
    let scheme = url.split("://").next().unwrap_or_default().to_ascii_lowercase();
    if scheme.starts_with("socks") {
        return refuse("socks proxies are not supported; use an http:// or https:// proxy");
    }
    // ureq would replace a port that is not a number by the default of the scheme.
    let is_whole = matches!(scheme.as_str(), "http" | "https") && address_of(&url).is_some();
    match ureq::Proxy::new(&url) {
        Ok(proxy) if is_whole => Ok(Some(proxy)),
        _ => refuse("it is no http:// or https:// URL"),
    }
}

/// Which proxy is used, or why none is, in words. They hold no password.
pub fn describe(address: &Url, environment: &NetworkSettings) -> Result<String, Failure> {
    let setting = environment.https_proxy.as_ref().or(environment.all_proxy.as_ref());
    let host = address.host_and_port();
    Ok(match (proxy_for(address, environment)?, setting, &environment.no_proxy) {
        (Some(proxy), Some(setting), _) => {
            let (proxy, port) = (proxy.host(), proxy.port());
            printable(&format!("{host} is reached through {proxy}:{port}, as {} says", setting.variable))
        }
        (None, Some(_), _) if address.is_loopback() => format!("{host} is this machine: no proxy"),
        (None, Some(_), Some(no_proxy)) => format!("none: {} names {host}", no_proxy.variable),
        _ => format!("none: no variable names one for {host}"),
    })
}

/// Whether `no_proxy` names the host: `*`, the host itself, or a domain that it is in. Commas or spaces separate the
/// entries. An entry may begin with `.` or `*.`, and may have a port.
fn is_direct(address: &Url, no_proxy: Option<&Setting>) -> bool {
    let Some(setting) = no_proxy else {
        return false;
    };
    setting.value.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let entry = entry.to_ascii_lowercase();
        let port = format!(":{}", address.port);
        // An IPv6 address has a port only after brackets.
        let may_have_port = |host: &&str| !host.contains(':') || host.ends_with(']');
        let entry = entry.strip_suffix(&port).filter(may_have_port).unwrap_or(&entry);
        let entry = entry.trim_start_matches('[').trim_end_matches(']');
        let domain = entry.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
        let host = address.host.trim_end_matches('.');
        let is_inside = host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        !domain.is_empty() && is_inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::metadata::endpoint_url;

    fn setting(variable: &'static str, value: &str) -> Option<Setting> {
        (!value.is_empty()).then(|| Setting { variable, value: value.to_owned() })
    }

    fn environment(https: &str, all: &str, no: &str) -> NetworkSettings {
        NetworkSettings {
            https_proxy: setting("HTTPS_PROXY", https),
            all_proxy: setting("all_proxy", all),
            no_proxy: setting("NO_PROXY", no),
            ..NetworkSettings::default()
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_proxy_is_curls_choice() {
        let (p, q) = ("http://p:1", "http://u:pw@q:2");
        // (url, HTTPS_PROXY, all_proxy, NO_PROXY, proxy)
        let cases = [
            ("https://as.example/", p, q, "", Some("p:1")),
            ("https://as.example/", "", q, "", Some("q:2")),
            ("https://as.example/", "p:1", "", "", Some("p:1")),
            ("https://as.example/", "", "", "", None),
            ("https://127.0.0.1:9/", p, "", "", None),
            ("http://localhost/", p, q, "", None),
            ("https://as.example/", p, "", "*", None),
            ("https://as.example/", p, "", "other, AS.example", None),
            ("https://as.example/", p, "", ".example", None),
            ("https://as.example/", p, "", "*.example", None),
            ("https://as.example/", p, "", "as.example:443", None),
            ("https://as.example/", p, "", "as.example:8443", Some("p:1")),
            ("https://as.example/", p, "", "s.example", Some("p:1")),
            ("https://as.example/", p, "", "., ,", Some("p:1")),
            ("https://[2001:db8::1]/", p, "", "2001:db8::1", None),
            ("https://[2001:db8::1]/", p, "", "[2001:db8::1]:443", None),
            ("https://[2001:db8::1:443]/", p, "", "2001:db8::1:443", None),
        ];
        for (url, https, all, no, wanted) in cases {
            let proxy = proxy_for(&endpoint_url(url).unwrap(), &environment(https, all, no)).unwrap();
            let shown = proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
            assert_eq!(shown.as_deref(), wanted, "{url} {https} {all} {no}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_never_bypassed() {
        let address = endpoint_url("https://as.example/").unwrap();
        for value in
            ["socks5://u:pw@p:1", "http://", "http://u:pw@p:x", "ftp://p", "http://p:1 x", "http://u:pw@"]
        {
            let failure = proxy_for(&address, &environment(value, "", "")).expect_err(value);
            assert_eq!(failure.kind, Kind::Usage);
            assert!(failure.message.contains("HTTPS_PROXY") && !failure.message.contains("pw"), "{failure}");
        }
    }
}
