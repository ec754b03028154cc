//! The value of a cell: the document and the attempt records in one JSON object. See "Cell stores" in `docs/design.md`.

use super::{RawValue, Version};
use crate::error::{self, Failure};
use crate::session::Revision;
use crate::store::{RecordName, Snapshot, absent, revision};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// How far two clocks that agree can seem to be apart, in seconds: the server gives its time in whole seconds.
const CLOCK_NOISE_SECONDS: u64 = 2;

/// An attempt record in the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CellRecord {
    pub number: u64,
    /// The credential digest.
    pub key: String,
    /// The record itself, as text.
    #[serde(rename = "record")]
    pub text: String,
    /// How many seconds the clock of the machine that wrote it was ahead of the store's clock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The members of a record that are times ("Attempt record" in `docs/design.md`).
const TIMES: [&str; 3] = ["at", "until", "ended_at"];

impl CellRecord {
    pub fn has_name(&self, name: RecordName) -> bool {
        self.number == name.number && self.key == name.key
    }

    /// The bytes of the record. Its times are those of a clock that is `ahead` of the store's clock, in seconds.
    pub fn bytes(&self, ahead: i64) -> Vec<u8> {
        let shift = ahead.saturating_sub(self.ahead);
        let shifted = || {
            let mut record: Map<String, Json> = serde_json::from_str(&self.text).ok()?;
            for time in TIMES {
                if let Some(value) = record.get_mut(time)
                    && let Some(seconds) = value.as_i64()
                {
                    *value = seconds.saturating_add(shift).into();
                }
            }
            serde_json::to_vec(&record).ok()
        };
        let is_significant = shift.unsigned_abs() > CLOCK_NOISE_SECONDS;
        is_significant.then(shifted).flatten().unwrap_or_else(|| self.text.clone().into_bytes())
    }
}

/// The document and the records in a cell. Without either, the cell is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CellValue {
    pub document: Option<Vec<u8>>,
    pub records: Vec<CellRecord>,
}

/// How a value with records begins. Their member is the first one, so the bytes of the document stay as they are.
const OPENING: &[u8] = b"{\"attempts\":";

/// The bytes of a value with nothing in it.
pub(super) const NOTHING: &[u8] = b"{\"attempts\":[]}";

impl CellValue {
    /// Parses the bytes of a cell. Bytes that are no value count as a document: its reader says what is wrong.
    pub fn parse(bytes: &[u8]) -> Self {
        Self::parse_as_written(bytes)
            .or_else(|| Self::parse_in_any_order(bytes))
            .unwrap_or_else(|| Self { document: Some(bytes.to_vec()), records: Vec::new() })
    }

    fn parse_as_written(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(OPENING)?;
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter();
        let records = stream.next()?.ok()?;
        match rest.get(stream.byte_offset()..)?.split_first()? {
            (b',', members) => Some(Self { document: Some([b"{", members].concat()), records }),
            (b'}', []) => Some(Self { document: None, records }),
            _ => None,
        }
    }

    /// An editor or jq may have changed the order of the members.
    fn parse_in_any_order(bytes: &[u8]) -> Option<Self> {
        let mut members: Map<String, Json> = serde_json::from_slice(bytes).ok()?;
        let records = serde_json::from_value(members.remove("attempts")?).unwrap_or_default();
        let document = if members.is_empty() { None } else { Some(serde_json::to_vec(&members).ok()?) };
        Some(Self { document, records })
    }

    /// The bytes for the cell. `None`: the cell is to be empty.
    pub fn to_bytes(&self) -> Result<Option<Vec<u8>>, Failure> {
        if self.records.is_empty() {
            return Ok(self.document.clone());
        }
        let records = crate::grant::json_bytes(&self.records)?;
        let members = match &self.document {
            None => Some(&b"}"[..]),
            Some(document) => document.trim_ascii_start().strip_prefix(b"{"),
        };
        let Some(members) = members.filter(|members| !members.is_empty()) else {
            return Err(Failure::new(error::Kind::Store, "what is stored is not a document of onegrant"));
        };
        let comma = if members.trim_ascii() == b"}" { &b""[..] } else { b"," };
        Ok(Some([OPENING, &records, comma, members].concat()))
    }

    pub fn revision(&self) -> Revision {
        self.document.as_ref().map_or_else(absent, |bytes| revision(bytes))
    }

    pub fn snapshot(&self) -> Option<Snapshot> {
        let bytes = self.document.clone()?;
        Some(Snapshot { revision: revision(&bytes), bytes, warning: None, distrust: None })
    }

    /// Removes the record of an attempt that is over, and those of its key with lower numbers. A later one may be a live
    /// claim.
    pub fn remove_through(&mut self, name: RecordName) {
        self.records.retain(|record| record.key != name.key || record.number > name.number);
    }
}

/// A value as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct VersionedValue {
    pub value: CellValue,
    /// `None`: the cell is empty.
    pub version: Option<Version>,
}

impl VersionedValue {
    pub fn parse(raw: RawValue) -> Self {
        raw.map_or_else(Self::default, |(bytes, version)| Self {
            value: CellValue::parse(&bytes),
            version: Some(version),
        })
    }
}
