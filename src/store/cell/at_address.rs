//! Which cell is at an address.

use super::Cell;
use super::etcd::Etcd;
use super::kubernetes::KubernetesSecret;
use crate::error::Failure;
use crate::store_address::{CellAddress, CellKind};
use std::time::Duration;

/// The cell of a profile at this address. Does no I/O.
pub fn cell_at(address: &CellAddress, profile: &str) -> Box<dyn Cell> {
    match address.kind() {
        CellKind::Etcd(address) => Box::new(Etcd::new(address, profile)),
        CellKind::Kubernetes(address) => Box::new(KubernetesSecret::new(address, profile)),
    }
}

/// The profiles that have a cell at this address, sorted. Some may not be valid profile names.
pub fn profiles_at(address: &CellAddress, at_most: Duration) -> Result<Vec<String>, Failure> {
    match address.kind() {
        CellKind::Etcd(address) => Etcd::new(address, "").names(at_most),
        CellKind::Kubernetes(address) => KubernetesSecret::new(address, "").names(at_most),
    }
}
