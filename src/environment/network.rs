//! What decides how servers are reached: proxies, CA roots, name look-ups.

use crate::grant::Secret;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// A variable of the environment, and what it was set to.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name of the variable, as it was found.
    pub variable: &'static str,
    /// Its value. It may hold a password.
    pub value: String,
}

/// The part of the environment that decides how servers are reached. An empty variable counts as unset.
///
/// `http_proxy` is not among it: by curl's rule it is for plain http, which is used for loopback addresses
/// alone, and these are never proxied.
#[derive(Clone, Default)]
pub struct NetworkSettings {
    /// `SSL_CERT_FILE`: a file of CA roots.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: directories of CA roots.
    pub ssl_cert_dir: Vec<PathBuf>,
    /// `https_proxy` or `HTTPS_PROXY`.
    pub https_proxy: Option<Setting>,
    /// `all_proxy` or `ALL_PROXY`: where the scheme's own is not set.
    pub all_proxy: Option<Setting>,
    /// `no_proxy` or `NO_PROXY`: hosts that are reached directly.
    pub no_proxy: Option<Setting>,
    /// `ONEGRANT_ETCD_USER` and `ONEGRANT_ETCD_PASSWORD`.
    pub etcd_user: Option<EtcdUser>,
    /// `ONEGRANT_ETCD_CERT`: a file of this client's certificate.
    pub etcd_certificate: Option<PathBuf>,
    /// `ONEGRANT_ETCD_KEY`: a file of its private key, where it is not in the same one.
    pub etcd_key: Option<PathBuf>,
    /// The cluster that this process runs in, or that `ONEGRANT_KUBERNETES_API` names.
    pub kubernetes: Option<Kubernetes>,
}

/// How the server of a Kubernetes cluster is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The beginning of its URLs.
    pub server: String,
    /// A file of its CA roots.
    pub ca_file: Option<PathBuf>,
    /// A file with the bearer token.
    pub token_file: Option<PathBuf>,
}

impl Kubernetes {
    /// Every pod has the address in its environment, and the files of its service account here.
    const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let text = |variable: &str| Some(lookup(variable)?.to_string_lossy().into_owned());
        let token_file = lookup("ONEGRANT_KUBERNETES_TOKEN_FILE").map(PathBuf::from);
        if let Some(server) = text("ONEGRANT_KUBERNETES_API") {
            return Some(Self { server: server.trim_end_matches('/').to_owned(), ca_file: None, token_file });
        }
        let host = text("KUBERNETES_SERVICE_HOST")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = text("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let account = PathBuf::from(Self::SERVICE_ACCOUNT);
        Some(Self {
            server: format!("https://{host}:{port}"),
            ca_file: Some(account.join("ca.crt")),
            token_file: token_file.or_else(|| Some(account.join("token"))),
        })
    }
}

/// Who etcd is asked as.
#[derive(Clone)]
pub struct EtcdUser {
    /// The user's name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

impl NetworkSettings {
    /// Reads the process's environment.
    pub fn read() -> Self {
        Self::from_lookup(super::variable)
    }

    /// As curl does it: the name in lower case counts first. `lookup` is `crate::environment::variable` but for tests.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let lookup = |variable: &str| lookup(variable).filter(|value| !value.is_empty());
        let first = |variables: &[&'static str]| {
            variables.iter().find_map(|variable| {
                let value = lookup(variable)?.to_string_lossy().trim().to_owned();
                Some(Setting { variable, value }).filter(|setting| !setting.value.is_empty())
            })
        };
        Self {
            ssl_cert_file: lookup("SSL_CERT_FILE").map(PathBuf::from),
            ssl_cert_dir: lookup("SSL_CERT_DIR").map_or_else(Vec::new, |directories| {
                env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty()).collect()
            }),
            https_proxy: first(&["https_proxy", "HTTPS_PROXY"]),
            all_proxy: first(&["all_proxy", "ALL_PROXY"]),
            no_proxy: first(&["no_proxy", "NO_PROXY"]),
            etcd_user: lookup("ONEGRANT_ETCD_USER").map(|name| EtcdUser {
                name: name.to_string_lossy().into_owned(),
                password: Secret::new(
                    lookup("ONEGRANT_ETCD_PASSWORD").unwrap_or_default().to_string_lossy().into_owned(),
                ),
            }),
            etcd_certificate: lookup("ONEGRANT_ETCD_CERT").map(PathBuf::from),
            etcd_key: lookup("ONEGRANT_ETCD_KEY").map(PathBuf::from),
            kubernetes: Kubernetes::from_lookup(lookup),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_counts_first_and_empty_is_unset() {
        let variables = [
            ("https_proxy", ""),
            ("HTTPS_PROXY", " http://p:1 "),
            ("all_proxy", "http://low"),
            ("ALL_PROXY", "http://up"),
            ("SSL_CERT_FILE", ""),
            ("SSL_CERT_DIR", "/a::/b"),
        ];
        let environment = NetworkSettings::from_lookup(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        });
        let shown = |setting: &Option<Setting>| {
            setting.as_ref().map(|setting| format!("{}={}", setting.variable, setting.value))
        };
        assert_eq!(shown(&environment.https_proxy).as_deref(), Some("HTTPS_PROXY=http://p:1"));
        assert_eq!(shown(&environment.all_proxy).as_deref(), Some("all_proxy=http://low"));
        assert_eq!(environment.ssl_cert_file, None);
        assert_eq!(environment.ssl_cert_dir, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }
}
