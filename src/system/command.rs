//! A command that prints something for us, bounded in time and in what it prints.

use crate::error::describe;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What a command did.
#[derive(Debug)]
pub struct Printed {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it printed on stdout.
    pub stdout: Zeroizing<Vec<u8>>,
    /// The beginning of what it said on stderr.
    pub stderr: Vec<u8>,
}

/// How much of stderr is kept, in bytes.
const STDERR_LIMIT: usize = 4096;

/// Runs a command without a stdin and in a process group of its own, which is killed where it lasts longer than `timeout` or
/// prints more than `limit` bytes; both are told as an error.
pub fn run(command: &mut Command, timeout: Duration, limit: usize) -> io::Result<Printed> {
    run_on(Stdio::null(), command.process_group(0), timeout, limit)
}

/// The same in a session of its own: it has no terminal, also where this process has one.
#[expect(unsafe_code, reason = "the standard library has no stable call that starts a session")]
pub fn run_without_terminal(command: &mut Command, timeout: Duration, limit: usize) -> io::Result<Printed> {
    // SAFETY: it makes one system call, and nothing else.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    run_on(Stdio::null(), command, timeout, limit)
}

/// The same with `input` on stdin: in a file that lies in memory alone, so that nobody waits for a command to read it.
pub fn ask(command: &mut Command, input: &[u8], timeout: Duration, limit: usize) -> io::Result<Printed> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    run_on(file.into(), command.process_group(0), timeout, limit)
}

fn run_on(stdin: Stdio, command: &mut Command, timeout: Duration, limit: usize) -> io::Result<Printed> {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running { child: command.spawn()?, is_over: false };
    let mut printed = Zeroizing::new(Vec::new());
    let mut said = Vec::new();
    let until = Instant::now() + timeout;
    running.read(&mut printed, &mut said, limit, until)?;
    let status = running.wait(until)?;
    Ok(Printed { status, stdout: printed, stderr: said })
}

/// A child that is killed with its group when nobody waits for it any more.
struct Running {
    child: Child,
    is_over: bool,
}

/// How often the end of a command is looked for that has closed its stdout.
const GLANCE: Duration = Duration::from_millis(5);

impl Running {
    fn read(
        &mut self,
        printed: &mut Vec<u8>,
        said: &mut Vec<u8>,
        limit: usize,
        until: Instant,
    ) -> io::Result<()> {
        let (Some(mut stdout), Some(mut stderr)) = (self.child.stdout.take(), self.child.stderr.take())
        else {
            return Err(io::Error::other("it has no stdout"));
        };
        let mut buffer = Zeroizing::new([0; 4096]);
        let (mut is_printing, mut is_saying) = (true, true);
        while is_printing {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|error| io::Error::other(describe(&error)))?;
            let stdout_fd = PollFd::new(&stdout, PollFlags::IN);
            let stderr_fd = PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN);
            let mut both = [stdout_fd, stderr_fd];
            let watched = if is_saying { &mut both[..] } else { &mut both[..1] };
            match poll(watched, Some(&left)) {
                Ok(0) => return Err(ErrorKind::TimedOut.into()),
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready?,
            };
            let [is_readable, is_talking] = both.map(|fd| !fd.revents().is_empty());
            if is_readable {
                let length = stdout.read(&mut buffer[..])?;
                is_printing = length > 0;
                printed.extend_from_slice(buffer.get(..length).unwrap_or_default());
                if printed.len() > limit {
                    return Err(io::Error::other(format!("it prints more than {limit} bytes")));
                }
            }
            if is_saying && is_talking {
                let length = stderr.read(&mut buffer[..])?;
                is_saying = length > 0;
                let room = STDERR_LIMIT.saturating_sub(said.len()).min(length);
                said.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn wait(&mut self, until: Instant) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.is_over = true;
                return Ok(status);
            }
            if Instant::now() >= until {
                return Err(ErrorKind::TimedOut.into());
            }
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> io::Result<Printed> {
        run(Command::new("/bin/sh").args(["-c", script]), timeout, 1000)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_command_prints_and_says_is_told_apart() {
        let printed = shell("echo token; echo why >&2; exit 3", LONG).unwrap();
        assert_eq!(printed.status.code(), Some(3));
        assert_eq!((&printed.stdout[..], &printed.stderr[..]), (&b"token\n"[..], &b"why\n"[..]));
    }

    #[test]
    fn a_command_is_asked_more_than_a_pipe_takes_and_need_not_listen() {
        let input = vec![b'x'; 1 << 20];
        let mut count = Command::new("/bin/sh");
        let printed = ask(count.args(["-c", "wc -c"]), &input, LONG, 1000).unwrap();
        assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), "1048576");
        let printed = ask(&mut Command::new("/bin/true"), &input, LONG, 1000).unwrap();
        assert!(printed.status.success());
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_its_children() {
        let began = Instant::now();
        let error = shell("sleep 50 & sleep 50", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let error = shell("exec >&-; sleep 50", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(50), "it was waited for");
    }

    #[test]
    fn a_command_that_prints_for_ever_is_ended() {
        let error = shell("while :; do echo 0123456789; done", LONG).unwrap_err();
        assert!(error.to_string().contains("more than 1000 bytes"), "{error}");
        let printed =
            shell("i=0; while [ $i -lt 3000 ]; do echo noise >&2; i=$((i+1)); done; echo x", LONG).unwrap();
        assert_eq!((&printed.stdout[..], printed.stderr.len()), (&b"x\n"[..], STDERR_LIMIT));
    }
}
