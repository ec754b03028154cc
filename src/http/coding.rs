//! Content codings. Requests allow none (`Accept-Encoding: identity`), but some servers and proxies compress
//! nevertheless, and not all of them say so. A body that begins like gzip is gzip, whatever the head says.

use flate2::bufread::GzDecoder;
use std::io::{self, Read};

/// The first bytes of every gzip file (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A body without its content coding.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// The content, and why it may not be the content: a content coding that is not known here.
    Body(Vec<u8>, Option<String>),
    /// It is longer than the limit.
    TooLong,
}

/// Decodes a body. `coding` is the content coding that the head names. `limit` bounds the content, in bytes.
pub(super) fn decoded(body: Vec<u8>, coding: Option<&str>, limit: u64) -> Decoded {
    if !body.starts_with(&GZIP) {
        let foreign = coding.map(str::trim).filter(|coding| !is_harmless(coding));
        let why = foreign.map(|coding| format!("its content coding is {coding}"));
        return Decoded::Body(body, why);
    }
    match content_of(&body, limit) {
        Ok(Some(content)) => Decoded::Body(content, None),
        Ok(None) => Decoded::TooLong,
        Err(_) => Decoded::Body(body, Some("it is gzip that is cut short or damaged".to_owned())),
    }
}

/// The content of all gzip members (RFC 1952 section 2.2). `None` if it is longer than the limit. Bytes after a member
/// that are not gzip are padding and ignored, as gzip itself does.
fn content_of(body: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
    let (mut content, mut rest) = (Vec::new(), body);
    while rest.starts_with(&GZIP) {
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let mut member = GzDecoder::new(rest).take(limit.saturating_sub(length).saturating_add(1));
        member.read_to_end(&mut content)?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
            return Ok(None);
        }
        rest = member.into_inner().into_inner();
    }
    Ok(Some(content))
}

/// Whether a body with this coding that is not gzip is the content: a proxy decoded it and left the field.
fn is_harmless(coding: &str) -> bool {
    ["", "identity", "gzip", "x-gzip"].iter().any(|harmless| coding.eq_ignore_ascii_case(harmless))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    const LIMIT: u64 = 1000;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_decoded_whatever_the_head_says() {
        for coding in [None, Some("gzip"), Some("X-GZIP"), Some("identity"), Some("br")] {
            let wanted = Decoded::Body(b"{}".to_vec(), None);
            assert_eq!(decoded(gzip(b"{}"), coding, LIMIT), wanted, "{coding:?}");
        }
        let twice = [gzip(b"{"), gzip(b"}")].concat();
        assert_eq!(
            decoded(twice, None, LIMIT),
            Decoded::Body(b"{}".to_vec(), None),
            "two members are one content"
        );
        for padding in [&b"\0\0\0"[..], b"\r\n"] {
            let padded = [gzip(b"{}").as_slice(), padding].concat();
            assert_eq!(decoded(padded, None, LIMIT), Decoded::Body(b"{}".to_vec(), None), "{padding:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_gzip_stays_as_it_is() {
        for coding in [None, Some(""), Some("identity"), Some("gzip"), Some(" GZip ")] {
            assert_eq!(
                decoded(b"{}".to_vec(), coding, LIMIT),
                Decoded::Body(b"{}".to_vec(), None),
                "{coding:?}"
            );
        }
        let brotli = decoded(b"\x0b\x01".to_vec(), Some("br"), LIMIT);
        let why = "its content coding is br".to_owned();
        assert_eq!(brotli, Decoded::Body(b"\x0b\x01".to_vec(), Some(why)));
    }

    #[test]
    fn gzip_that_is_cut_or_damaged_is_kept_with_the_reason() {
        let whole = gzip(&b"content".repeat(20));
        for length in 2..whole.len() {
            let cut = whole[..length].to_vec();
            let Decoded::Body(body, Some(_)) = decoded(cut.clone(), None, LIMIT) else { panic!("{length}") };
            assert_eq!(body, cut);
        }
        let mut damaged = whole.clone();
        let checksum = whole.len() - 8;
        damaged[checksum] ^= 1;
        assert!(matches!(decoded(damaged, None, LIMIT), Decoded::Body(_, Some(_))));
    }

    #[test]
    fn the_content_is_bounded_however_small_its_gzip_is() {
        let limit = usize::try_from(LIMIT).unwrap();
        assert!(matches!(decoded(gzip(&vec![b'x'; limit]), None, LIMIT), Decoded::Body(_, None)));
        assert_eq!(decoded(gzip(&vec![b'x'; limit + 1]), None, LIMIT), Decoded::TooLong);
        assert_eq!(decoded(gzip(&vec![0; 100 << 20]), None, LIMIT), Decoded::TooLong);
    }
}
