//! What the tests share: a home directory that removes itself, documents of format version 1, processes that are
//! bounded and keep every word that they print, and crowds of them.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test crate includes the whole and uses the part that it needs"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

pub mod broker;
pub mod keyring;

pub use servers::authorization_server::{
    self, AuthorizationServer, Endpoint, Fault, Gate, Issued, Replay, Response, Settings,
};

use rustix::fs::{FlockOperation, MemfdFlags, flock, memfd_create};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The end of every wait: far longer than anything takes on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The time between two looks at something that gives no signal when it changes.
const TICK: Duration = Duration::from_millis(2);

/// The lifetime of the sessions that [`Home::grant`] writes, in seconds.
pub const LIFETIME: i64 = 3600;

/// Seconds left of a session that has ended.
pub const EXPIRED: i64 = -10;

/// Seconds left of a session that is refreshed for `--min-ttl 900`, and works on if that fails.
pub const VALID: i64 = 600;

/// The arguments that find a session with [`VALID`] seconds too old.
pub const AGEING: [&str; 3] = ["token", "--min-ttl", "900"];

/// Waits for something that can only be looked at.
#[track_caller]
pub fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}");
        thread::sleep(TICK);
    }
}

/// Seconds since the Unix epoch.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A server with these settings that differ from the default.
pub fn server(change: impl FnOnce(&mut Settings)) -> AuthorizationServer {
    let mut settings = Settings::default();
    change(&mut settings);
    AuthorizationServer::start(settings)
}

/// How many cases of a sweep run at the same time: most of each is waiting.
const AT_ONCE: usize = 8;

/// Does the work for each case, [`AT_ONCE`] at a time. Each thread has what `begin` gives it.
pub fn side_by_side<T: Sync, S>(cases: &[T], begin: impl Fn() -> S + Sync, work: impl Fn(&S, &T) + Sync) {
    let next = Mutex::new(cases.iter());
    let go = || {
        let own = begin();
        while let Some(case) = { next.lock().unwrap().next() } {
            work(&own, case);
        }
    };
    thread::scope(|scope| (0..AT_ONCE.min(cases.len())).for_each(|_| drop(scope.spawn(go))));
}

/// A directory of its own for one test, and in it the directory `state` of the file store. Removes itself.
pub struct Home {
    pub root: PathBuf,
    pub state: PathBuf,
}

impl Home {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", env!("CARGO_CRATE_NAME"), std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let state = root.join("state");
        DirBuilder::new().recursive(true).mode(0o700).create(&state).unwrap();
        Self { root, state }
    }

    /// A home with a grant of the server. Its access token lasts for so many seconds.
    pub fn with_grant(server: &AuthorizationServer, left: i64) -> (Self, Issued) {
        let home = Self::new();
        let issued = home.grant(server, left);
        (home, issued)
    }

    /// The same, with a profile that names these servers.
    pub fn with_grant_for(server: &AuthorizationServer, left: i64, hosts: &[&str]) -> (Self, Issued) {
        let (home, issued) = Self::with_grant(server, left);
        let mut document = home.document();
        document["git_hosts"] = json!(hosts);
        home.write(&document);
        (home, issued)
    }

    /// Issues a grant and writes its document.
    pub fn grant(&self, server: &AuthorizationServer, left: i64) -> Issued {
        let issued = server.issue_grant();
        self.write(&document(server, &issued, left));
        issued
    }

    pub fn document_path(&self) -> PathBuf {
        self.state.join("default.json")
    }

    /// Writes a document as another program would: atomically, mode 0600.
    pub fn write(&self, document: &Value) {
        self.write_bytes(document.to_string().as_bytes());
    }

    pub fn write_bytes(&self, bytes: &[u8]) {
        let beside = self.root.join("document");
        fs::write(&beside, bytes).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&beside, self.document_path()).unwrap();
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(self.document_path()).unwrap()
    }

    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.bytes()).unwrap()
    }

    /// The stored access and refresh token.
    pub fn tokens(&self) -> Issued {
        let document = self.document();
        let text = |name: &str| document["session"][name].as_str().unwrap_or_default().to_owned();
        Issued { access_token: text("access_token"), refresh_token: text("refresh_token") }
    }

    /// The names of the files in the store, sorted; without the histories, which are there for people alone.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.state).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.contains("~history"));
        names.sort();
        names
    }

    /// The attempt records in the store.
    pub fn attempts(&self) -> Vec<Value> {
        let names = self.names().into_iter().filter(|name| name.contains("~attempt."));
        // One that was removed since it was listed is none.
        names.filter_map(|name| serde_json::from_slice(&fs::read(self.state.join(name)).ok()?).ok()).collect()
    }

    /// The program under test with nothing in its environment but this home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = onegrant(arguments);
        command.env("ONEGRANT_HOME", &self.state).current_dir(&self.root);
        command
    }

    /// Runs `onegrant ARGUMENTS` to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// The same without locks.
    #[track_caller]
    pub fn run_with_lock(&self, lock: &str, arguments: &[&str]) -> Ran {
        run(self.command(arguments).env("ONEGRANT_LOCK", lock))
    }

    /// Starts `onegrant ARGUMENTS`.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(&mut self.command(arguments))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Some tests take the permission to do so away.
        let _ = fs::set_permissions(&self.state, fs::Permissions::from_mode(0o700));
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The document of a grant, as a login of `lifetime - left` seconds ago left it.
pub fn document(server: &AuthorizationServer, issued: &Issued, left: i64) -> Value {
    let expires_at = now() + left;
    json!({
        "version": 1,
        "issuer": server.issuer(),
        "token_endpoint": server.token_endpoint(),
        "revocation_endpoint": server.url(Endpoint::Revocation),
        "userinfo_endpoint": server.url(Endpoint::Userinfo),
        "device_authorization_endpoint": server.url(Endpoint::DeviceAuthorization),
        "client_id": server.client_id(),
        "client_auth": "none",
        "session": {
            "access_token": issued.access_token,
            "token_type": "Bearer",
            "refresh_token": issued.refresh_token,
            "expires_at": expires_at,
            "obtained_at": expires_at - LIFETIME,
        },
    })
}

/// What a person's login at this server stores beside the session and the login itself.
pub fn document_after_login(server: &AuthorizationServer) -> Value {
    json!({
        "version": 1,
        "issuer": server.issuer(),
        "token_endpoint": server.token_endpoint(),
        "authorization_endpoint": server.url(Endpoint::Authorization),
        "authorization_response_iss": true,
        "device_authorization_endpoint": server.url(Endpoint::DeviceAuthorization),
        "revocation_endpoint": server.url(Endpoint::Revocation),
        "userinfo_endpoint": server.url(Endpoint::Userinfo),
        "client_id": server.client_id(),
        "client_auth": "none",
        "scope": "openid offline_access",
        "login": null,
        "session": null,
    })
}

/// A signed token with these claims. The signature is not checked anywhere.
pub fn jwt(claims: &Value) -> String {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("eyJhbGciOiJub25lIn0.{payload}.c2ln")
}

/// An answer of the token endpoint with these members beside a new access token. The server does nothing.
pub fn token_answer(members: &Value) -> Fault {
    let mut answer = json!({ "access_token": "at-new", "token_type": "Bearer", "expires_in": LIFETIME });
    answer.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Fault::Status(Response::json(200, answer.to_string()))
}

/// The program under test, with an empty environment and an empty stdin.
pub fn onegrant(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onegrant"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Everything that a process left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ran {
    /// The exit code; negative: the signal that ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// A process that printed this token and said nothing.
    pub fn printed(token: &str) -> Self {
        Self { code: 0, stdout: format!("{token}\n"), stderr: String::new() }
    }

    /// A process that printed nothing and said this.
    pub fn failed(code: i32, stderr: impl Into<String>) -> Self {
        Self { code, stdout: String::new(), stderr: stderr.into() }
    }

    /// The token that it printed, alone and without an error.
    #[track_caller]
    pub fn token(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout.strip_suffix('\n').unwrap()
    }
}

/// A process that was started by a test. Dropping it kills it.
pub struct Process {
    child: Child,
    stdout: File,
    stderr: File,
}

impl Process {
    /// Starts it; stdin, arguments and environment are the command's.
    pub fn start(command: &mut Command) -> Self {
        let stdout = memory_file();
        command.stdout(stdout.try_clone().unwrap());
        Self::start_with_stdout(command, stdout)
    }

    /// The same, but stdout is the command's.
    pub fn start_to_its_stdout(command: &mut Command) -> Self {
        Self::start_with_stdout(command, memory_file())
    }

    fn start_with_stdout(command: &mut Command, stdout: File) -> Self {
        let stderr = memory_file();
        let child = command.stderr(stderr.try_clone().unwrap()).spawn().unwrap();
        Self { child, stdout, stderr }
    }

    /// What it said on stderr so far.
    pub fn said(&self) -> String {
        text(&self.stderr)
    }

    /// What it printed on stdout so far.
    pub fn printed(&self) -> String {
        text(&self.stdout)
    }

    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Ran {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return self.ran(status);
            }
            assert!(began.elapsed() < LIMIT, "it does not end; it said: {}", self.said());
            thread::sleep(TICK);
        }
    }

    fn ran(&self, status: ExitStatus) -> Ran {
        let code = status.code().or(status.signal().map(|signal| -signal)).unwrap();
        Ran { code, stdout: self.printed(), stderr: self.said() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where it is over, which it mostly is.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes any amount, never blocks its writer, and can be read while it is written.
fn memory_file() -> File {
    File::from(memfd_create("output", MemfdFlags::CLOEXEC).unwrap())
}

fn text(file: &File) -> String {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    let length = file.read_at(&mut bytes, 0).unwrap_or_default();
    bytes.truncate(length);
    String::from_utf8(bytes).unwrap()
}

/// The process that claimed the refresh last: the worker of the caller.
#[track_caller]
pub fn spender(home: &Home) -> u32 {
    let attempts = home.attempts();
    let attempt = attempts.iter().max_by_key(|attempt| attempt["at"].as_i64()).unwrap();
    u32::try_from(attempt["by"]["pid"].as_u64().unwrap()).unwrap()
}

/// Whether that process runs; one that waits for its parent to take note of its end does not.
pub fn is_running(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// What a process does (proc_pid_stat(5)): `R` if it runs, `S` if it sleeps.
pub fn state(pid: u32) -> Option<char> {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    status.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Kills a process in the middle of a refresh, and its worker after it. Gives the worker's identifier.
#[track_caller]
pub fn kill_with_worker(process: Process, home: &Home) -> u32 {
    let worker = spender(home);
    process.signal(Signal::KILL);
    assert_eq!(process.finish().code, -9);
    kill_process(Pid::from_raw(i32::try_from(worker).unwrap()).unwrap(), Signal::KILL).unwrap();
    wait_for("the end of the worker", || !is_running(worker));
    worker
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    Process::start(command).finish()
}

/// Runs many at once: each is started by a shell that waits for the end of one pipe, which all see at once.
#[track_caller]
pub fn run_together(commands: Vec<Command>) -> Vec<Ran> {
    start_together(commands, Path::new("/dev/null")).finish()
}

/// Many processes, released at once.
pub struct Crowd {
    pub processes: Vec<Process>,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Crowd {
    #[track_caller]
    pub fn finish(self) -> Vec<Ran> {
        self.processes.into_iter().map(Process::finish).collect()
    }
}

/// Starts and releases many at once; `stdin` is a file that each of them reads. One crowd at a time: descriptors
/// and processors are few.
pub fn start_together(commands: Vec<Command>, stdin: &Path) -> Crowd {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (reader, writer) = std::io::pipe().unwrap();
    let start = |command: Command| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "read -r go; exec \"$@\" <\"$0\""]).arg(stdin);
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(command.get_current_dir().unwrap()).stdin(reader.try_clone().unwrap());
        Process::start(&mut shell)
    };
    let processes = commands.into_iter().map(start).collect();
    drop(writer);
    Crowd { processes, _alone: alone }
}

/// The same outcome for all, or which ones there were.
#[track_caller]
pub fn assert_all(ran: &[Ran], wanted: &Ran) {
    let mut others: Vec<&Ran> = ran.iter().filter(|ran| *ran != wanted).collect();
    let count = others.len();
    others.sort();
    others.dedup();
    assert!(others.is_empty(), "{count} of {} are not {wanted:?}: {others:?}", ran.len());
}

/// Whether the lock of this file is free. It is taken and released at once: closing the file would not release it while
/// another thread of the test starts a program, because that program has the open file until its `exec`.
pub fn lock_is_free(path: &Path) -> bool {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let is_free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if is_free {
        flock(&file, FlockOperation::Unlock).unwrap();
    }
    is_free
}

/// Runs the test `name` in a process that runs no other test. Gives `false` in that process, where the caller goes on, and
/// `true` in the process that waited for it. For tests that hold locks in their own process: the programs that other
/// tests start at this moment would keep those locks until their `exec`.
#[track_caller]
pub fn ran_alone(name: &str) -> bool {
    const IS_ALONE: &str = "ONEGRANT_TEST_IS_ALONE";
    if std::env::var_os(IS_ALONE).is_some() {
        return false;
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args([name, "--exact", "--include-ignored", "--nocapture"]).env(IS_ALONE, "").stdin(Stdio::null());
    let ran = run(&mut test);
    let is_run = ran.stdout.contains("1 passed");
    assert!(ran.code == 0 && is_run, "{name}: {}{}", ran.stdout, ran.stderr);
    true
}

/// Runs the test `name` in a process with a network of its own, as [`ran_alone`] does it. There this machine has `addresses`
/// beside those of loopback, and `hosts` is `/etc/hosts`.
#[track_caller]
pub fn ran_in_own_network(name: &str, addresses: &[&str], hosts: &str) -> bool {
    const IS_INSIDE: &str = "ONEGRANT_TEST_HAS_OWN_NETWORK";
    if std::env::var_os(IS_INSIDE).is_some() {
        return false;
    }
    let home = Home::new();
    let file = home.root.join("hosts");
    fs::write(&file, hosts).unwrap();
    let script = format!(
        "ip link set lo up
        for address in {}; do ip address add $address/32 dev lo; done
        mount --bind \"$0\" /etc/hosts
        exec \"$@\"",
        addresses.join(" ")
    );
    let options = if is_root() { "-nm" } else { "-rnm" };
    let mut test = Command::new("unshare");
    test.args([options, "/bin/sh", "-euc", &script]).arg(file).arg(std::env::current_exe().unwrap());
    test.args([name, "--exact", "--nocapture"]).env(IS_INSIDE, "").stdin(Stdio::null());
    let ran = run(&mut test);
    assert!(ran.code == 0 && ran.stdout.contains("1 passed"), "{name}: {}{}", ran.stdout, ran.stderr);
    true
}

/// Writes a program. Another process writes it: a program that is open for writing cannot be executed, and the programs
/// that other threads start at this moment have every file of this process open until their `exec`.
pub fn write_program(path: &Path, script: &str) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(path).arg(script);
    assert_eq!(run(&mut shell).code, 0, "cannot write {}", path.display());
}

/// Copies the program under test. Another process does so, for the reason that [`write_program`] gives.
pub fn copy_program(to: &Path) {
    let ran = run(Command::new("/bin/cp").arg(env!("CARGO_BIN_EXE_onegrant")).arg(to));
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Root sees through permissions, and may mount.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same command without the right to see through permissions.
pub fn unprivileged(command: &Command) -> Command {
    if !is_root() {
        return wrapped("/usr/bin/env", &[], command);
    }
    let without = "-dac_override,-dac_read_search";
    let options = [format!("--bounding-set={without}"), format!("--inh-caps={without}")];
    wrapped("setpriv", &options.each_ref().map(String::as_str), command)
}

/// `script` in a mount namespace of its own; `$0` is the home's root, `$@` the command.
pub fn in_namespace(script: &str, home: &Home, command: &Command) -> Command {
    let options = if is_root() { "-m" } else { "-rm" };
    let root = home.root.to_str().unwrap();
    wrapped("unshare", &[options, "/bin/sh", "-euc", script, root], command)
}

/// The command behind another program, which is looked for in the usual places.
pub fn wrapped(program: &str, arguments: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args()).env_clear();
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    wrapped.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    wrapped
}
