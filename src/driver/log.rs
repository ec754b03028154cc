//! The lines that a refresh prints under `-v` and `-vv`.

use super::Dependencies;
use crate::protocol::metadata::endpoint_url;
use crate::session::{Event, Level, ReplaceResult, Step};
use std::time::Duration;

/// Prints the lines of one refresh.
pub(super) struct Log<'a> {
    dependencies: &'a Dependencies<'a>,
    /// Whether a request was sent. A second request and its answer are shown only under `-vv`.
    has_sent: bool,
    /// When the last request was sent, since the start of this process.
    sent_at: Duration,
    /// The line about the server's answer. It is printed after the answer is stored, because stderr may block.
    answer: Option<(u8, String)>,
}

impl<'a> Log<'a> {
    pub(super) fn new(dependencies: &'a Dependencies<'a>) -> Self {
        Self { dependencies, has_sent: false, sent_at: Duration::ZERO, answer: None }
    }

    /// Called before the step is performed.
    pub(super) fn begins(&mut self, step: &Step, level: Level) {
        if !matches!(step, Step::Replace { .. }) {
            self.print_answer();
        }
        match step {
            Step::Pause(duration) => self.print(2, &format!("waiting {} ms", duration.as_millis())),
            Step::Adopt { .. } => self.print(1, "adopting the session that an interrupted process left"),
            Step::Spend { document, .. } => {
                let url = endpoint_url(&document.token_endpoint);
                let host = url.map_or_else(|_| "the token endpoint".to_owned(), |url| url.host_and_port());
                let pid = self.dependencies.clock.this_process().pid;
                let level = self.dependencies.store.level_name(level);
                self.print(self.importance(), &format!("process {pid} refreshes at {host} ({level})"));
                self.sent_at = self.dependencies.clock.now().elapsed;
            }
            Step::Revoke { .. } => self.print(1, "logged out meanwhile: revoking the new refresh token"),
            _ => {}
        }
    }

    /// Called after the step was performed.
    pub(super) fn ended(&mut self, step: &Step, event: &Event) {
        match (step, event) {
            (_, Event::Answered(answer)) => {
                let took = self.dependencies.clock.now().elapsed.saturating_sub(self.sent_at);
                let line = format!("after {} ms: {}", took.as_millis(), answer.story());
                self.answer = Some((self.importance(), line));
                self.has_sent = true;
            }
            (Step::Replace { document, .. }, Event::Replaced(result)) => {
                self.print_answer();
                if *result == ReplaceResult::Done {
                    let is_cleared = document.session.is_none();
                    self.print(
                        1,
                        if is_cleared { "the session is cleared" } else { "the new session is stored" },
                    );
                }
            }
            _ => {}
        }
    }

    fn importance(&self) -> u8 {
        if self.has_sent { 2 } else { 1 }
    }

    fn print_answer(&mut self) {
        if let Some((importance, line)) = self.answer.take() {
            self.print(importance, &line);
        }
    }

    fn print(&self, importance: u8, line: &str) {
        (self.dependencies.log)(importance, line);
    }
}
