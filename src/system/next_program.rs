//! The next program on `PATH` with the name under which this one was called, for calls that this one does not answer.
//!
//! No call comes back to this program for ever. Each rule ends another kind of loop:
//!
//! | rule | loop |
//! |---|---|
//! | only directories after the one in which this program was found | two copies of this program; a program that runs the next one on `PATH` itself |
//! | no file that is this program, whatever its name and its links | links to it in two directories |
//! | no script that names onegrant | a script that runs this program with other settings |
//! | [`is_in_a_loop`] | all others |

use nix::time::{ClockId, clock_gettime};
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fs::{self, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of a script is searched, in bytes. A script that only runs another program is shorter.
const SCRIPT_LIMIT: u64 = 4096;

/// The most processor time of this process, also by the programs whose place it took: some thousand calls of one another. A
/// shell that is replaced by this program has used less.
const LOOP_CPU: Duration = Duration::from_secs(2);

/// The most processes above this one. People and CI systems have less than half as many.
const LOOP_DEPTH: usize = 100;

/// The programs named `name` in the directories of `path` that come after this program, in this order. `called` is the name
/// by which this program was called, which may have a path. An empty or a relative entry of `path` is skipped: it means another
/// program in each working directory.
pub fn next_programs(name: &str, called: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    // Without /proc this program cannot be told from others.
    let Ok(this) = fs::metadata("/proc/self/exe") else { return Vec::new() };
    let directories: Vec<PathBuf> = std::env::split_paths(path).collect();
    let after = own_place(name, called, &directories, &this).map_or(0, |place| place.saturating_add(1));
    let is_other = |program: &PathBuf| {
        fs::metadata(program).is_ok_and(|file| {
            file.is_file() && file.mode() & 0o111 != 0 && !is_same(&file, &this) && !names_onegrant(program)
        })
    };
    let directories = directories.iter().skip(after).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(name)).filter(is_other).collect()
}

/// Where this program is on the path: in the directory of `called`, otherwise in the first with this program. If a directory
/// is there twice, its last place counts, so that each program has a later place than the one that called it.
fn own_place(name: &str, called: &OsStr, directories: &[PathBuf], this: &Metadata) -> Option<usize> {
    let is_file =
        |path: &Path, wanted: &Metadata| fs::metadata(path).is_ok_and(|file| is_same(&file, wanted));
    let called = Path::new(called);
    match called.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => {
            let directory = fs::metadata(directory).ok()?;
            directories.iter().rposition(|entry| is_file(entry, &directory))
        }
        None => directories.iter().position(|entry| is_file(&entry.join(name), this)),
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether the beginning of a script names onegrant. Its first line does not count: an interpreter may be anywhere.
fn names_onegrant(program: &Path) -> bool {
    let mut text = Vec::new();
    // What became a FIFO meanwhile is not waited for.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(program);
    if file.and_then(|file| file.take(SCRIPT_LIMIT).read_to_end(&mut text)).is_err()
        || !text.starts_with(b"#!")
    {
        return false;
    }
    let body = text.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default().to_ascii_lowercase();
    body.windows(b"onegrant".len()).any(|window| window == b"onegrant")
}

/// Whether this process, or the processes above it, look like a call that always comes back. A program that takes this one's
/// place keeps the processor time of the process; a program that starts another one makes the tree of processes deeper.
pub fn is_in_a_loop() -> bool {
    let used = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default();
    let parent =
        |pid: &u32| super::process_status(*pid).map(|status| status.parent).filter(|parent| *parent != 0);
    let above = std::iter::successors(Some(std::process::id()), parent);
    used > LOOP_CPU || above.take(LOOP_DEPTH.saturating_add(1)).count() > LOOP_DEPTH
}
