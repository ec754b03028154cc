//! What a cell holds: the document and its records, one JSON object.

use super::{Value, Version};
use crate::error::{self, Failure};
use crate::session::Revision;
use crate::store::{RecordName, Snapshot, absent, revision};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// The largest difference, in seconds, that two equal clocks may show: a server tells its time in whole seconds.
const CLOCK_NOISE: u64 = 2;

/// A record in the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub number: u64,
    pub key: String,
    pub record: String,
    /// How many seconds the clock of the writer was ahead of the clock of the store.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The times of an attempt record.
const TIMES: [&str; 3] = ["at", "until", "ended_at"];

impl Entry {
    pub fn is(&self, name: RecordName) -> bool {
        self.number == name.number && self.key == name.key
    }

    /// The record with its times by a clock that is `ahead` of the clock of the store.
    pub fn record_for(&self, ahead: i64) -> Vec<u8> {
        let shift = ahead.saturating_sub(self.ahead);
        let shifted = || {
            let mut record: Map<String, Json> = serde_json::from_str(&self.record).ok()?;
            for time in TIMES {
                if let Some(value) = record.get_mut(time)
                    && let Some(seconds) = value.as_i64()
                {
                    *value = seconds.saturating_add(shift).into();
                }
            }
            serde_json::to_vec(&record).ok()
        };
        let is_told = shift.unsigned_abs() > CLOCK_NOISE;
        is_told.then(shifted).flatten().unwrap_or_else(|| self.record.clone().into_bytes())
    }
}

/// The parts of a value. If both are missing, there is no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub document: Option<Vec<u8>>,
    pub attempts: Vec<Entry>,
}

/// The beginning of a value with records. Their member comes first, so the bytes of the document stay unchanged.
pub(super) const OPENING: &[u8] = b"{\"attempts\":";

impl Parts {
    /// Any other value is a document without records. The reader of the document says what is wrong with it.
    pub fn of(bytes: &[u8]) -> Self {
        Self::as_written(bytes)
            .or_else(|| Self::as_rewritten(bytes))
            .unwrap_or_else(|| Self { document: Some(bytes.to_vec()), attempts: Vec::new() })
    }

    fn as_written(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(OPENING)?;
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter();
        let attempts = stream.next()?.ok()?;
        match rest.get(stream.byte_offset()..)?.split_first()? {
            (b',', members) => Some(Self { document: Some([b"{", members].concat()), attempts }),
            (b'}', []) => Some(Self { document: None, attempts }),
            _ => None,
        }
    }

    /// An editor or jq has changed the order of the members.
    fn as_rewritten(bytes: &[u8]) -> Option<Self> {
        let mut members: Map<String, Json> = serde_json::from_slice(bytes).ok()?;
        let attempts = serde_json::from_value(members.remove("attempts")?).unwrap_or_default();
        let document = if members.is_empty() { None } else { Some(serde_json::to_vec(&members).ok()?) };
        Some(Self { document, attempts })
    }

    pub fn to_bytes(&self) -> Result<Option<Vec<u8>>, Failure> {
        if self.attempts.is_empty() {
            return Ok(self.document.clone());
        }
        let attempts = crate::grant::json_bytes(&self.attempts)?;
        let members = match &self.document {
            None => Some(&b"}"[..]),
            Some(document) => document.trim_ascii_start().strip_prefix(b"{"),
        };
        let Some(members) = members.filter(|members| !members.is_empty()) else {
            return Err(Failure::new(error::Kind::Store, "what is stored is not a document of onegrant"));
        };
        let comma = if members.trim_ascii() == b"}" { &b""[..] } else { b"," };
        Ok(Some([OPENING, &attempts, comma, members].concat()))
    }

    pub fn revision(&self) -> Revision {
        self.document.as_ref().map_or_else(absent, |bytes| revision(bytes))
    }

    pub fn snapshot(&self) -> Option<Snapshot> {
        let bytes = self.document.clone()?;
        Some(Snapshot { revision: revision(&bytes), bytes, warning: None, distrust: None })
    }

    /// Removes the record of an attempt that has ended, and earlier ones. A later one may be a live claim.
    pub fn end(&mut self, name: RecordName) {
        self.attempts.retain(|entry| entry.key != name.key || entry.number > name.number);
    }
}

/// The parts of a value, and its version.
pub(super) type Loaded = (Parts, Option<Version>);

pub(super) fn loaded(value: Value) -> Loaded {
    value.map_or_else(Loaded::default, |(bytes, version)| (Parts::of(&bytes), Some(version)))
}
