//! Addresses of cells: stores that hold one value for each profile and replace it by compare-and-swap.

use crate::protocol::metadata::endpoint_url;

/// Where a cell is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellAddress {
    kind: CellKind,
    /// As `--store` gave it.
    text: String,
}

/// The address in parts, for each kind of store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// A key of etcd.
    Etcd(EtcdAddress),
    /// A member of a Kubernetes Secret.
    Kubernetes(KubernetesAddress),
}

impl CellAddress {
    /// Parses an address of one of these kinds; an error says what is wrong with it. `None`: another kind of store.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let kind = match text.split_once(':')?.0 {
            "etcd" | "etcds" => EtcdAddress::parse(text).map(CellKind::Etcd),
            "kubernetes" => KubernetesAddress::parse(text).map(CellKind::Kubernetes),
            _ => return None,
        };
        Some(kind.map(|kind| Self { kind, text: text.to_owned() }))
    }

    /// The address as `--store` gave it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The address in parts.
    pub fn kind(&self) -> &CellKind {
        &self.kind
    }

    /// The kind in one word.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            CellKind::Etcd(_) => "etcd",
            CellKind::Kubernetes(_) => "kubernetes",
        }
    }
}

/// The parts of `etcd://…` or `etcds://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAddress {
    /// The members: scheme, host and port of each.
    pub endpoints: Vec<String>,
    /// A key is this prefix and the name of the profile. It begins and ends with a slash.
    pub prefix: String,
}

impl EtcdAddress {
    /// Parses `etcd://HOST:PORT[,HOST:PORT…]/PREFIX`, which uses TLS except for loopback addresses, or `etcds://…`,
    /// which always uses TLS. An error says what is wrong with the address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it is no URL")?;
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        if path.is_empty() || rest.contains(['?', '#']) || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("write etcd://HOST:PORT[,HOST:PORT]/PREFIX".to_owned());
        }
        let endpoints = hosts.split(',').map(|host| {
            let plain = format!("http://{host}");
            match endpoint_url(&plain) {
                Ok(_) if scheme == "etcd" => Ok(plain),
                _ => {
                    let secure = format!("https://{host}");
                    endpoint_url(&secure).map(|_| secure).map_err(|failure| failure.message)
                }
            }
        });
        Ok(Self { endpoints: endpoints.collect::<Result<_, _>>()?, prefix: format!("/{path}/") })
    }
}

/// The parts of `kubernetes://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesAddress {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret.
    pub name: String,
}

impl KubernetesAddress {
    /// Parses `kubernetes://NAMESPACE/NAME`. An error says how to write the address.
    pub fn parse(text: &str) -> Result<Self, String> {
        // DNS labels and names (RFC 1123). A URL needs no encoding for them.
        let is_name = |text: &str| {
            let is_allowed =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            (1..=253).contains(&text.len()) && text.bytes().all(is_allowed) && !text.starts_with(['.', '-'])
        };
        let parts = text.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        match parts {
            Some((namespace, name)) if is_name(namespace) && !namespace.contains('.') && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write kubernetes://NAMESPACE/NAME, as they are in Kubernetes".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_plain_and_everything_else_uses_tls() {
        #[rustfmt::skip]
        let cases = [
            ("etcd://127.0.0.1:2379/grants",           Ok(vec!["http://127.0.0.1:2379"])),
            ("etcd://[::1]:2379,localhost:1/a/b/",     Ok(vec!["http://[::1]:2379", "http://localhost:1"])),
            ("etcd://a.example:2379,b.example:2379/g", Ok(vec!["https://a.example:2379", "https://b.example:2379"])),
            ("etcds://127.0.0.1:2379/g",               Ok(vec!["https://127.0.0.1:2379"])),
            ("etcd://a.example:2379",                  Err(())),
            ("etcd://a.example:2379/",                 Err(())),
            ("etcd:///g",                              Err(())),
            ("etcd://a.example,,b.example/g",          Err(())),
            ("etcd://user:password@a.example/g",       Err(())),
            ("etcd://a.example/g?x",                   Err(())),
            ("etcd://127.0.0.1:2379?x/g",              Err(())),
        ];
        for (text, endpoints) in cases {
            let parsed = EtcdAddress::parse(text).map_err(drop).map(|address| address.endpoints);
            assert_eq!(
                parsed,
                endpoints.map(|texts| texts.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
        assert_eq!(EtcdAddress::parse("etcd://localhost:1//a/b/").unwrap().prefix, "/a/b/");
    }

    #[test]
    fn a_kubernetes_address_is_a_namespace_and_a_name() {
        for good in ["kubernetes://default/onegrant", "kubernetes://team-1/a.b-c"] {
            assert!(KubernetesAddress::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "kubernetes://default",
            "kubernetes:///a",
            "kubernetes://a.b/c",
            "kubernetes://a/b/c",
            "kubernetes://A/b",
            "kubernetes://a/../b",
        ] {
            assert!(KubernetesAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
