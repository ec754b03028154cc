//! The addresses of cells, as `--store` takes them.

use super::Cell;
use super::etcd::{self, Etcd};
use super::kubernetes::{self, KubernetesSecret};
use crate::error::Failure;
use std::time::Duration;

/// The location of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellAddress {
    kind: Kind,
    /// As it was given.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Etcd(etcd::EtcdAddress),
    Kubernetes(kubernetes::KubernetesAddress),
}

impl CellAddress {
    /// `None` if it is the address of another kind of store. Otherwise the address, or what is wrong with it.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let kind = match text.split_once(':')?.0 {
            "etcd" | "etcds" => etcd::EtcdAddress::parse(text).map(Kind::Etcd),
            "kubernetes" => kubernetes::KubernetesAddress::parse(text).map(Kind::Kubernetes),
            _ => return None,
        };
        Some(kind.map(|kind| Self { kind, text: text.to_owned() }))
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The kind of store, in one word.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Etcd(_) => "etcd",
            Kind::Kubernetes(_) => "kubernetes",
        }
    }

    /// The cell of a profile. Making it costs nothing.
    pub fn cell(&self, profile: &str) -> Box<dyn Cell> {
        match &self.kind {
            Kind::Etcd(address) => Box::new(Etcd::new(address, profile)),
            Kind::Kubernetes(address) => Box::new(KubernetesSecret::new(address, profile)),
        }
    }

    /// The profiles with a cell there, sorted. The list may contain names that no profile can have.
    pub fn profiles(&self, at_most: Duration) -> Result<Vec<String>, Failure> {
        match &self.kind {
            Kind::Etcd(address) => Etcd::new(address, "").names(at_most),
            Kind::Kubernetes(address) => KubernetesSecret::new(address, "").names(at_most),
        }
    }
}
