//! The settings for connections to servers: proxies, CA roots, addresses, credentials.

use crate::grant::Secret;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// A variable of the environment and its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name of the variable. It says in which case it was found.
    pub variable: &'static str,
    /// Its value, which may contain a password.
    pub value: String,
}

/// The variables that decide how servers are reached. An empty variable counts as unset.
///
/// `http_proxy` is not one of them. It is for plain http (curl's rule). Only loopback addresses use plain http, and they are
/// reached without a proxy.
#[derive(Clone, Default)]
pub struct NetworkSettings {
    /// `SSL_CERT_FILE`: a file of CA roots.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: directories of CA roots.
    pub ssl_cert_dir: Vec<PathBuf>,
    /// `https_proxy` or `HTTPS_PROXY`.
    pub https_proxy: Option<Setting>,
    /// `all_proxy` or `ALL_PROXY`: used if the proxy of the scheme is not set.
    pub all_proxy: Option<Setting>,
    /// `no_proxy` or `NO_PROXY`: hosts that are reached without a proxy.
    pub no_proxy: Option<Setting>,
    /// `ONEGRANT_ETCD_USER` and `ONEGRANT_ETCD_PASSWORD`.
    pub etcd_user: Option<EtcdUser>,
    /// `ONEGRANT_ETCD_CERT`: the file with this client's certificate.
    pub etcd_certificate: Option<PathBuf>,
    /// `ONEGRANT_ETCD_KEY`: the file with its private key, if that is another file.
    pub etcd_key: Option<PathBuf>,
    /// The server of the cluster that this process runs in, or that `ONEGRANT_KUBERNETES_API` names.
    pub kubernetes: Option<KubernetesServer>,
}

/// The API server of a Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesServer {
    /// Its URL, without a path.
    pub url: String,
    /// The file with its CA roots.
    pub ca_file: Option<PathBuf>,
    /// The file with the bearer token.
    pub token_file: Option<PathBuf>,
}

impl KubernetesServer {
    /// Where each pod has the files of its service account.
    const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

    fn from_variables(look_up: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let text = |variable: &str| Some(look_up(variable)?.to_string_lossy().into_owned());
        let token_file = look_up("ONEGRANT_KUBERNETES_TOKEN_FILE").map(PathBuf::from);
        if let Some(url) = text("ONEGRANT_KUBERNETES_API") {
            return Some(Self { url: url.trim_end_matches('/').to_owned(), ca_file: None, token_file });
        }
        let host = text("KUBERNETES_SERVICE_HOST")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = text("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let account = PathBuf::from(Self::SERVICE_ACCOUNT);
        Some(Self {
            url: format!("https://{host}:{port}"),
            ca_file: Some(account.join("ca.crt")),
            token_file: token_file.or_else(|| Some(account.join("token"))),
        })
    }
}

/// A user of etcd.
#[derive(Clone)]
pub struct EtcdUser {
    /// The user's name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

impl NetworkSettings {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        Self::from_variables(super::variable)
    }

    /// Asks `look_up` ([`super::variable`], except in tests) for each variable. As in curl, the name in lower case comes first.
    pub fn from_variables(look_up: impl Fn(&str) -> Option<OsString>) -> Self {
        let look_up = |variable: &str| look_up(variable).filter(|value| !value.is_empty());
        let first = |variables: &[&'static str]| {
            variables.iter().find_map(|variable| {
                let value = look_up(variable)?.to_string_lossy().trim().to_owned();
                Some(Setting { variable, value }).filter(|setting| !setting.value.is_empty())
            })
        };
        Self {
            ssl_cert_file: look_up("SSL_CERT_FILE").map(PathBuf::from),
            ssl_cert_dir: look_up("SSL_CERT_DIR").map_or_else(Vec::new, |directories| {
                env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty()).collect()
            }),
            https_proxy: first(&["https_proxy", "HTTPS_PROXY"]),
            all_proxy: first(&["all_proxy", "ALL_PROXY"]),
            no_proxy: first(&["no_proxy", "NO_PROXY"]),
            etcd_user: look_up("ONEGRANT_ETCD_USER").map(|name| EtcdUser {
                name: name.to_string_lossy().into_owned(),
                password: Secret::new(
                    look_up("ONEGRANT_ETCD_PASSWORD").unwrap_or_default().to_string_lossy().into_owned(),
                ),
            }),
            etcd_certificate: look_up("ONEGRANT_ETCD_CERT").map(PathBuf::from),
            etcd_key: look_up("ONEGRANT_ETCD_KEY").map(PathBuf::from),
            kubernetes: KubernetesServer::from_variables(look_up),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_lower_case_comes_first_and_an_empty_variable_is_unset() {
        let variables = [
            ("https_proxy", ""),
            ("HTTPS_PROXY", " http://p:1 "),
            ("all_proxy", "http://low"),
            ("ALL_PROXY", "http://up"),
            ("SSL_CERT_FILE", ""),
            ("SSL_CERT_DIR", "/a::/b"),
        ];
        let environment = NetworkSettings::from_variables(|name| {
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
