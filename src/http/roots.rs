//! CA roots: the system's and the built-in ones together, so that a private CA and a container without any
//! both work.

use crate::system::Environment;
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use std::path::Path;
use ureq::tls::{Certificate, RootCerts};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// The CA roots of this process.
pub(super) struct Roots {
    certificates: RootCerts,
    /// Where they come from and how many there are, fit to be shown.
    pub origin: String,
    /// What could not be read, with the variable that names it.
    pub warnings: Vec<String>,
}

impl Roots {
    /// Reads `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the places where this kind of system keeps its CA roots if
    /// neither gives any; adds the built-in ones. What cannot be read becomes a warning where it was named.
    pub fn load(environment: &Environment) -> Self {
        let mut named = Named::default();
        if let Some(file) = &environment.ssl_cert_file {
            named.add("SSL_CERT_FILE", file, load_certs_from_paths(Some(file), None));
        }
        for directory in &environment.ssl_cert_dir {
            named.add("SSL_CERT_DIR", directory, load_certs_from_paths(None, Some(directory)));
        }
        let Named { mut certificates, mut origins, warnings } = named;
        if certificates.is_empty() {
            certificates = own(load_native_certs());
            origins.push(format!("{} of the system", certificates.len()));
        }
        origins.push(format!("{} built in", TLS_SERVER_ROOT_CERTS.len()));
        let built_in = TLS_SERVER_ROOT_CERTS.iter().map(|root| Certificate::from_der(root));
        Self {
            certificates: RootCerts::from(certificates.into_iter().chain(built_in)),
            origin: origins.join(", "),
            warnings,
        }
    }

    /// The roots for a connection; without TLS there are none.
    pub fn certificates(roots: Option<&Self>) -> RootCerts {
        roots.map_or_else(|| RootCerts::from([]), |roots| roots.certificates.clone())
    }
}

#[derive(Default)]
struct Named {
    certificates: Vec<Certificate<'static>>,
    origins: Vec<String>,
    warnings: Vec<String>,
}

impl Named {
    fn add(&mut self, variable: &str, path: &Path, found: CertificateResult) {
        let why = found.errors.first().map(ToString::to_string);
        let certificates = own(found);
        if certificates.is_empty() {
            let why = why.unwrap_or_else(|| "there is no certificate in it".to_owned());
            let text = format!("cannot use {variable} {}: {why}", path.display());
            self.warnings.push(crate::error::printable(&text));
        } else {
            self.origins.push(format!("{} from {variable} {}", certificates.len(), path.display()));
        }
        self.certificates.extend(certificates);
    }
}

fn own(found: CertificateResult) -> Vec<Certificate<'static>> {
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_the_built_in_roots_remain() {
        for file in ["/nonexistent/ca.pem", "/dev/null"] {
            let environment =
                Environment { ssl_cert_file: Some(PathBuf::from(file)), ..Environment::default() };
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
    fn a_private_ca_stands_beside_the_built_in_roots() {
        let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/ca.pem"));
        let roots = Roots::load(&Environment { ssl_cert_file: Some(file), ..Environment::default() });
        assert!(roots.origin.starts_with("1 from SSL_CERT_FILE "), "{}", roots.origin);
        assert_eq!(roots.warnings, [""; 0]);
    }
}
