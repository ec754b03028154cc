//! CA roots: those of the system and the built-in ones together. So a private CA works, and so does a container without
//! CA roots.

use crate::environment::NetworkSettings;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use std::path::Path;
use std::sync::Arc;
use webpki_roots::TLS_SERVER_ROOTS;

/// The CA roots of this process.
pub(super) struct Roots {
    anchors: Arc<RootCertStore>,
    /// Where they come from, and how many there are. Fit to be shown.
    pub origin: String,
    /// What could not be read, with the name of the variable.
    pub warnings: Vec<String>,
}

impl Roots {
    /// Reads `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the usual places of this system if neither gives any, and adds the
    /// built-in ones. It is a warning if a named file or directory cannot be read.
    pub fn load(environment: &NetworkSettings) -> Self {
        let mut named = Named::default();
        if let Some(file) = &environment.ssl_cert_file {
            named.add("SSL_CERT_FILE", file, load_certs_from_paths(Some(file), None));
        }
        for directory in &environment.ssl_cert_dir {
            named.add("SSL_CERT_DIR", directory, load_certs_from_paths(None, Some(directory)));
        }
        let Named { mut certificates, mut origins, warnings } = named;
        if certificates.is_empty() {
            certificates = load_native_certs().certs;
            origins.push(format!("{} of the system", certificates.len()));
        }
        origins.push(format!("{} built in", TLS_SERVER_ROOTS.len()));
        let mut anchors = RootCertStore { roots: TLS_SERVER_ROOTS.to_vec() };
        // A certificate that cannot be parsed is ignored: some systems keep old ones in an obsolete form.
        anchors.add_parsable_certificates(certificates);
        Self { anchors: Arc::new(anchors), origin: origins.join(", "), warnings }
    }

    /// The trust anchors for a connection. Without TLS there are none.
    pub fn anchors(roots: Option<&Self>) -> Arc<RootCertStore> {
        roots.map_or_else(|| Arc::new(RootCertStore::empty()), |roots| roots.anchors.clone())
    }
}

#[derive(Default)]
struct Named {
    certificates: Vec<CertificateDer<'static>>,
    origins: Vec<String>,
    warnings: Vec<String>,
}

impl Named {
    fn add(&mut self, variable: &str, path: &Path, found: CertificateResult) {
        let why = found.errors.first().map(ToString::to_string);
        let certificates = found.certs;
        if certificates.is_empty() {
            let why = why.unwrap_or_else(|| "there is no certificate in it".to_owned());
            let text = format!("cannot use {variable} {}: {why}", path.display());
            self.warnings.push(crate::text::printable(&text));
        } else {
            self.origins.push(format!("{} from {variable} {}", certificates.len(), path.display()));
        }
        self.certificates.extend(certificates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_the_built_in_roots_remain() {
        for file in ["/nonexistent/ca.pem", "/dev/null"] {
            let environment =
                NetworkSettings { ssl_cert_file: Some(PathBuf::from(file)), ..NetworkSettings::default() };
            let roots = Roots::load(&environment);
            assert!(
                roots.warnings[0].starts_with(&format!("cannot use SSL_CERT_FILE {file}: ")),
                "{:?}",
                roots.warnings
            );
            assert!(roots.origin.ends_with(" built in"), "{}", roots.origin);
        }
    }

    #[test]
    fn a_private_ca_is_added_to_the_built_in_roots() {
        let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/ca.pem"));
        let roots = Roots::load(&NetworkSettings { ssl_cert_file: Some(file), ..NetworkSettings::default() });
        assert!(roots.origin.starts_with("1 from SSL_CERT_FILE "), "{}", roots.origin);
        assert_eq!(roots.warnings, [""; 0]);
    }
}
