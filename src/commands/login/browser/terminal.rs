//! Reads what a person pastes at the terminal. The mode of the terminal is not changed, so nothing has to be restored.

use crate::grant::Secret;
use crate::system::never_stop_for_the_terminal;
use rustix::fd::BorrowedFd;
use rustix::io::{Errno, read};
use rustix::stdio::stdin;
use std::io::IsTerminal;
use zeroize::Zeroize;

/// The longest line, in bytes. A terminal itself takes no more than 4095 of them at once.
const LINE_LIMIT: usize = 16 << 10;

/// Standard input, which is a terminal.
pub struct Terminal {
    line: Vec<u8>,
}

impl Terminal {
    /// Standard input, if it is a terminal. A file or a pipe on stdin is not for the login.
    pub fn of_stdin() -> Option<Self> {
        let is_terminal = std::io::stdin().is_terminal();
        is_terminal.then(|| {
            never_stop_for_the_terminal();
            Self { line: Vec::new() }
        })
    }

    /// The descriptor to wait for.
    pub fn descriptor(&self) -> BorrowedFd<'static> {
        stdin()
    }

    /// The complete lines, each cut to [`LINE_LIMIT`]. `None` at the end of the input, and if this process is in the background.
    pub fn read(&mut self) -> Option<Vec<Secret>> {
        let mut buffer = [0; 4096];
        let length = match read(stdin(), &mut buffer) {
            Ok(0) => return None,
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => 0,
            Err(_) => return None,
        };
        let mut lines = Vec::new();
        for byte in buffer.iter().take(length) {
            match byte {
                b'\n' | b'\r' => {
                    lines.push(Secret::new(String::from_utf8_lossy(&self.line)));
                    self.line.zeroize();
                }
                // A longer line is no address. It is cut, and then refused.
                _ if self.line.len() >= LINE_LIMIT => {}
                byte => self.line.push(*byte),
            }
        }
        buffer.zeroize();
        Some(lines)
    }
}
