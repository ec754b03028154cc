//! Lock calls on file systems where a call can hang and no signal reaches it (NFS without a lock manager, FUSE).
//!
//! A thread of its own opens the file, and has another process make the call: a call that a FUSE server has taken and does
//! not answer holds its process, and the parent that waits for this process, even against SIGKILL. The caller stops waiting
//! at its deadline, and the thread ends with the process.

use super::{Guard, open};
use crate::session::LockMode;
use crate::subprocess::lock_call;
use crate::system;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The stack of the thread that makes the calls, in bytes: it opens a file and starts a process.
const STACK_BYTES: usize = 64 << 10;

/// Makes calls one after the other. A call that was not answered can be waited for once more.
#[derive(Debug)]
pub(super) struct LockThread {
    path: PathBuf,
    thread: Option<(Sender<LockMode>, Receiver<CallResult>)>,
    /// The call that has not been answered yet.
    waiting: Option<LockMode>,
}

impl LockThread {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), thread: None, waiting: None }
    }

    /// Has the thread make the call; [`io::ErrorKind::Interrupted`] if it was not answered in time. If no thread can be
    /// started, this one makes the call, and does not wait.
    pub fn call(&mut self, mode: LockMode, at_most: Duration) -> io::Result<Guard> {
        // The answer to another call must not be taken for this one's.
        if self.waiting.take_if(|waiting| *waiting != mode).is_some() {
            self.thread = None;
        }
        let (requests, answers) = self.thread.get_or_insert_with(|| start(&self.path));
        let is_asked = self.waiting.take().is_some() || requests.send(mode).is_ok();
        match is_asked.then(|| answers.recv_timeout(at_most)) {
            Some(Ok(answer)) => Ok(answer?.map_or_else(Guard::default, Guard::of)),
            Some(Err(RecvTimeoutError::Timeout)) => {
                self.waiting = Some(mode);
                Err(io::ErrorKind::Interrupted.into())
            }
            None | Some(Err(RecvTimeoutError::Disconnected)) => {
                Ok(have_made(&self.path, LockMode::Try)?.map_or_else(Guard::default, Guard::of))
            }
        }
    }
}

/// The locked file; `None` after a wait for a release.
type CallResult = io::Result<Option<File>>;

fn start(path: &Path) -> (Sender<LockMode>, Receiver<CallResult>) {
    let (requests, asked) = channel::<LockMode>();
    let (sender, answers) = channel();
    let path = path.to_owned();
    // After the wait the receiver is gone: the file is closed then, and the lock released.
    let work = move || {
        system::leave_signals_to_others();
        asked.iter().try_for_each(|mode| sender.send(have_made(&path, mode)))
    };
    drop(std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work));
    (requests, answers)
}

fn have_made(path: &Path, mode: LockMode) -> CallResult {
    let file = open(path)?;
    lock_call::make(&file, mode)?;
    // After a wait for a release the file is closed here, so that a stop signal cannot come first.
    Ok((mode != LockMode::AwaitRelease).then_some(file))
}
