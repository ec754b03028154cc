//! The head of a response, reduced to what onegrant reads. ureq accepts at most 128 fields, and only a head that fits
//! into its buffer. Servers and proxies send more (cookies, policies). So a head is collected here, up to [`HEAD_LIMIT`],
//! and ureq gets its first line and the fields of [`USED`].

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// The longest head of a response, in bytes, including the interim responses before it (RFC 9110 section 15.2).
pub(super) const HEAD_LIMIT: usize = 64 << 10;

/// The fields that ureq or onegrant reads, in lower case.
const USED: [&[u8]; 12] = [
    b"age",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"date",
    b"location",
    b"mcp-session-id",
    b"onegrant-profile",
    b"retry-after",
    b"transfer-encoding",
    b"www-authenticate",
];

/// Fields that are lists: every line counts. Of other fields only the first line counts.
const LISTS: [&[u8]; 3] = [b"content-encoding", b"transfer-encoding", b"www-authenticate"];

/// The most lines of one list that are kept: no server needs more.
const LIST_LINES: usize = 8;

/// The first bytes of every response (RFC 9112 section 4).
const BEGINNING: &[u8] = b"HTTP/";

/// Gives a connection its filter.
#[derive(Debug)]
pub(super) struct Heads;

impl<In: Transport> Connector<In> for Heads {
    type Out = Filtered<In>;

    fn connect(&self, _: &ConnectionDetails, connection: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(connection.map(|connection| Filtered {
            connection,
            is_collecting: true,
            collected: Vec::new(),
            interim: 0,
            head: Head::default(),
        }))
    }
}

/// A connection that gives its first response a short head. What follows the head is passed on unchanged.
#[derive(Debug)]
pub(super) struct Filtered<In> {
    connection: In,
    is_collecting: bool,
    /// The part of the head that has arrived.
    collected: Vec<u8>,
    /// The length of the interim responses, which are dropped.
    interim: usize,
    head: Head,
}

impl<In: Transport> Filtered<In> {
    fn deliver(&mut self, bytes: Vec<u8>) {
        self.is_collecting = false;
        self.head = Head { bytes, consumed: 0 };
    }

    /// Takes the part of the head that has arrived, and leaves what follows the head.
    fn collect(&mut self) -> Result<(), Error> {
        let known = self.collected.len();
        let arrived = self.connection.buffers().input();
        self.collected.extend_from_slice(arrived);
        let end = end_of_head(&self.collected, known);
        let length = end.unwrap_or(self.collected.len());
        let taken = length.saturating_sub(known);
        self.connection.buffers().input_consume(taken);
        self.collected.truncate(length);
        let total = self.interim.saturating_add(length);
        if total > HEAD_LIMIT {
            return Err(Error::LargeResponseHeader(total, HEAD_LIMIT));
        }
        if !may_be_http(&self.collected) {
            let foreign = std::mem::take(&mut self.collected);
            self.deliver(foreign);
        } else if end.is_some() {
            let head = std::mem::take(&mut self.collected);
            match is_interim(&head) {
                true => self.interim = total,
                false => self.deliver(used_of(&head)),
            }
        }
        Ok(())
    }
}

impl<In: Transport> Transport for Filtered<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        match self.head.rest().is_empty() {
            true => self.connection.buffers(),
            false => &mut self.head,
        }
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.connection.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        while self.is_collecting {
            if self.connection.buffers().input().is_empty() && !self.connection.await_input(timeout)? {
                // The response ends within its head. ureq reports that.
                let cut = std::mem::take(&mut self.collected);
                self.deliver(cut);
                return Ok(false);
            }
            self.collect()?;
            if !self.is_collecting {
                return Ok(true);
            }
        }
        self.connection.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}

/// A head that is being read.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    consumed: usize,
}

impl Head {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.consumed..).unwrap_or_default()
    }
}

/// Nothing is written while a head is read.
impl Buffers for Head {
    fn output(&mut self) -> &mut [u8] {
        &mut []
    }

    fn input(&self) -> &[u8] {
        self.rest()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        &mut []
    }

    fn input_appended(&mut self, _: usize) {}

    fn input_consume(&mut self, amount: usize) {
        self.consumed = self.consumed.saturating_add(amount);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut [], &mut [])
    }

    fn can_use_input(&self) -> bool {
        !self.rest().is_empty()
    }
}

/// Empty lines before a response are skipped (RFC 9112 section 2.2).
fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

fn may_be_http(bytes: &[u8]) -> bool {
    without_empty_lines(bytes).iter().zip(BEGINNING).all(|(one, other)| one == other)
}

/// The end of the head: after its first empty line. The first `known` bytes were searched before.
fn end_of_head(bytes: &[u8], known: usize) -> Option<usize> {
    let first_line = bytes.len().saturating_sub(without_empty_lines(bytes).len());
    let start = known.saturating_sub(2).max(first_line);
    let rest = bytes.get(start..).unwrap_or_default();
    let end = |end: &[u8]| {
        let found = rest.windows(end.len()).position(|window| window == end)?;
        found.checked_add(end.len())?.checked_add(start)
    };
    [end(b"\n\n"), end(b"\n\r\n")].into_iter().flatten().min()
}

/// Whether this is an interim response (1xx), which the final one follows.
fn is_interim(head: &[u8]) -> bool {
    let line = without_empty_lines(head);
    line.split(|byte| *byte == b' ').nth(1).is_some_and(|status| status.first() == Some(&b'1'))
}

/// The first line and the used fields of a head. A field that continues on the next line (RFC 9112 section 5.2) is
/// joined. ureq would drop the whole response because of a control character, so a field with one is left out, and the
/// first line loses its own.
fn used_of(head: &[u8]) -> Vec<u8> {
    let mut lines = without_empty_lines(head).split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default().trim_ascii_end();
    let mut used: Vec<u8> = first.iter().copied().filter(|byte| !is_control(*byte)).collect();
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut is_kept = false;
    for line in lines {
        let text = line.trim_ascii();
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if is_kept && !text.is_empty() && !text.iter().copied().any(is_control) {
                used.push(b' ');
                used.extend_from_slice(text);
            }
            continue;
        }
        let name = text.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
        let so_far = names.iter().filter(|other| **other == name).count();
        let most = if LISTS.contains(&name.as_slice()) { LIST_LINES } else { 1 };
        let is_field = text.contains(&b':') && !text.iter().copied().any(is_control);
        is_kept = USED.contains(&name.as_slice()) && is_field && so_far < most;
        if is_kept {
            used.extend_from_slice(b"\r\n");
            used.extend_from_slice(text);
            names.push(name);
        }
    }
    used.extend_from_slice(b"\r\n\r\n");
    used
}

/// Whether no field may hold this character (RFC 9110 section 5.5).
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(head: &str) -> String {
        String::from_utf8(used_of(head.as_bytes())).unwrap()
    }

    #[test]
    fn the_first_line_and_the_used_fields_are_kept() {
        let cases = [
            ("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
            (
                "\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a\r\nDATE: now\r\nX: y\r\nContent-Length:2\r\n\r\n",
                "HTTP/1.1 200 OK\r\nDATE: now\r\nContent-Length:2\r\n\r\n",
            ),
            // Line feeds without carriage returns, a field on two lines, and lines that are no fields.
            ("HTTP/1.1 200\nDate: a\n b\nX: c\n d\nage\n: x\n\n", "HTTP/1.1 200\r\nDate: a b\r\n\r\n"),
            // The first line of a field, and every line of a list.
            (
                "HTTP/1.1 301 X\r\nlocation: /a\r\nLocation: /b\r\ntransfer-encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
                "HTTP/1.1 301 X\r\nlocation: /a\r\ntransfer-encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            // Control characters.
            (
                "HTTP/1.1 301 a\x07b\r\nLocation: /a\x07b\r\nDate: a\tb\r\nAge: 1\r\n \x7f\r\n\r\n",
                "HTTP/1.1 301 ab\r\nDate: a\tb\r\nAge: 1\r\n\r\n",
            ),
        ];
        for (head, wanted) in cases {
            assert_eq!(used(head), wanted);
        }
        let many = "Content-Encoding: gzip\r\n".repeat(1000);
        let kept = used(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"));
        assert_eq!(kept.matches("gzip").count(), LIST_LINES);
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_its_bytes_are_cut() {
        for head in
            ["HTTP/1.1 200 OK\r\nA: b\r\n\r\n", "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200\nA: b\n\n"]
        {
            let bytes = format!("{head}body\r\n\r\n").into_bytes();
            for known in 0..head.len() {
                assert_eq!(end_of_head(&bytes[..known], 0), None, "{head:?} {known}");
                assert_eq!(end_of_head(&bytes, known), Some(head.len()), "{head:?} {known}");
            }
        }
    }

    #[test]
    fn interim_answers_and_foreign_protocols_are_recognised() {
        for (head, interim) in
            [("HTTP/1.1 103 Early Hints\r\n\r\n", true), ("HTTP/1.1 200 OK\r\n\r\n", false)]
        {
            assert_eq!(is_interim(head.as_bytes()), interim, "{head}");
        }
        for (bytes, wanted) in
            [("", true), ("\r\nHT", true), ("HTTP/1.1 200", true), ("SSH-2.0", false), ("\r\n<html>", false)]
        {
            assert_eq!(may_be_http(bytes.as_bytes()), wanted, "{bytes}");
        }
    }
}
