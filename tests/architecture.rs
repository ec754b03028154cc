//! Rules that a machine checks stay true: which room may import which, what the pure rooms may use, and how much there is
//! to read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at a surprise")]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src`, from the bottom to the top. A room may import the rooms before it. A module that is not named here
/// belongs to the room around it.
const LAYERS: [&str; 30] = [
    "error",
    "text",
    "grant",
    "protocol",
    "session",
    "adapters",
    "environment",
    "store_address",
    "system",
    "output",
    "subprocess",
    "subprocess::lock_call",
    "lock",
    "subprocess::lock_probe",
    "http",
    "oauth",
    "store",
    "driver",
    "history",
    "globals",
    "cli",
    "subprocess::runner",
    "subprocess::worker",
    "profile",
    "broker",
    "subprocess::worker_process",
    "subprocess::runner_process",
    "subprocess::companion",
    "subprocess::modes",
    "commands",
];

/// What only one room may use.
const ONE_USER: [(&str, &str); 3] = [("env::var", "environment"), ("fs4::", "system"), ("ureq::", "http")];

/// The rooms that decide without I/O, and may be explored exhaustively.
const PURE: [&str; 8] = [
    "src/session",
    "src/protocol",
    "src/adapters",
    "src/store_address",
    "src/grant",
    "src/text.rs",
    "src/error.rs",
    "src/broker/desk.rs",
];

/// What no pure room may name.
const IMPURE: [&str; 12] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process::Command",
    "::now()",
    "sleep(",
    "ureq",
    "fs4",
    "rustix",
    " nix::",
    "(nix::",
];

/// What decides and acts: the state machine, the driver's loop, the file store, the lock.
const CORE: [&str; 7] = [
    "src/session/machine",
    "src/session/judgement.rs",
    "src/session/bounds.rs",
    "src/driver/mod.rs",
    "src/store/file.rs",
    "src/lock.rs",
    "src/system/flock.rs",
];

/// The most lines of code in it, without tests, comments and blank lines.
const CORE_LINES: usize = 1500;

/// The longest file, in lines of any kind, that can be read in one sitting.
const FILE_LINES: usize = 600;

/// The Rust below a path, tests included.
fn all_sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return if path.extension().is_some_and(|end| end == "rs") {
            vec![path.to_owned()]
        } else {
            Vec::new()
        };
    }
    fs::read_dir(path).unwrap().flat_map(|entry| all_sources(&entry.unwrap().path())).collect()
}

fn sources(path: &Path) -> Vec<PathBuf> {
    all_sources(path).into_iter().filter(|path| !is_test(path)).collect()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "exploration")
}

/// The lines before the tests.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().map(str::to_owned).collect()
}

fn root(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

/// The room of a module, and its place in [`LAYERS`].
fn layer(module: &str) -> Option<usize> {
    let (room, _) = module.split_once("::").unwrap_or((module, ""));
    let place = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let parts: Vec<&str> = module.splitn(3, "::").collect();
    parts.get(..2).and_then(|two| place(&two.join("::"))).or_else(|| place(room))
}

/// The module that is in this file; none for the library's own and those of the binary.
fn module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root("src")).unwrap().with_extension("");
    let parts = inside.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod");
    let module = parts.collect::<Vec<_>>().join("::");
    (!["lib", "main", "left_out"].contains(&module.as_str())).then_some(module)
}

/// The modules that a line imports or names by `crate::`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let is_of_path = |character: char| character.is_ascii_lowercase() || "_:".contains(character);
    line.split("crate::").skip(1).map(move |rest| {
        let end = rest.find(|character| !is_of_path(character)).unwrap_or(rest.len());
        rest[..end].trim_end_matches(':')
    })
}

#[test]
fn imports_point_down() {
    let mut checked = 0;
    for path in sources(&root("src")) {
        let Some(module) = module(&path) else { continue };
        let here = layer(&module).unwrap_or_else(|| panic!("{module} belongs to no layer"));
        for line in lines(&path).iter().filter(|line| is_code(line)) {
            for import in imports(line) {
                let there = layer(import).unwrap_or_else(|| panic!("{}: {line}", path.display()));
                assert!(there <= here, "{module} imports {import}, which is above it");
                let is_meeting = |room: &str| module.starts_with("store") && import.starts_with(room);
                assert!(!is_meeting("oauth"), "{module} imports {import}: a store knows no OAuth");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked} imports were found: this test looks for what is not there");
}

#[test]
fn the_page_of_the_architecture_has_the_same_layers() {
    let page = fs::read_to_string(root("docs/architecture.md")).unwrap();
    let (_, layers) = page.split_once("## The layers").unwrap();
    let mut block = layers.split("```").nth(1).unwrap().lines().skip(1);
    assert!(block.next().unwrap().starts_with("main, lib "));
    let rooms: Vec<&str> = block.map(|line| line.split(' ').next().unwrap()).collect();
    assert!(rooms.iter().rev().eq(&LAYERS), "the page has {rooms:?}");
}

#[test]
fn each_heading_of_the_design_that_a_comment_names_exists() {
    let design = fs::read_to_string(root("docs/design.md")).unwrap();
    let headings: Vec<&str> = design.lines().filter_map(|line| Some(line.split_once("# ")?.1)).collect();
    let mut found = 0;
    for path in all_sources(&root("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for (before, _) in text.lines().filter_map(|line| line.split_once("\" in `docs/design.md`")) {
            let heading = before.rsplit('"').next().unwrap();
            assert!(headings.contains(&heading), "{} names {heading}", path.display());
            found += 1;
        }
    }
    assert!(found >= 10, "only {found} were found: this test looks for what is not there");
}

#[test]
fn one_room_reads_the_environment_one_locks_and_one_speaks_http() {
    for path in sources(&root("src")) {
        let Some(module) = module(&path) else { continue };
        for line in lines(&path).iter().filter(|line| is_code(line)) {
            let other = ONE_USER.iter().find(|(used, room)| line.contains(used) && !module.starts_with(room));
            assert_eq!(other, None, "{module}: {line}");
        }
    }
}

#[test]
fn the_pure_rooms_do_no_input_and_output() {
    for room in PURE {
        for path in sources(&root(room)) {
            for line in lines(&path).iter().filter(|line| is_code(line)) {
                let found = IMPURE.iter().find(|impure| line.contains(**impure));
                assert_eq!(found, None, "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn the_core_can_be_read_in_an_afternoon() {
    let count = |path: PathBuf| lines(&path).iter().filter(|line| is_code(line)).count();
    let total: usize = CORE.iter().flat_map(|part| sources(&root(part))).map(count).sum();
    println!("{total} lines of code in {}", CORE.join(", "));
    assert!(total <= CORE_LINES, "{total} lines of code; {CORE_LINES} were promised");
}

#[test]
fn each_file_can_be_read_in_one_sitting() {
    for path in sources(&root("src")) {
        let count = lines(&path).len();
        assert!(count <= FILE_LINES, "{} has {count} lines", path.display());
    }
}

#[test]
fn each_ignored_test_names_the_script_or_the_step_of_ci_that_runs_it() {
    let mut found = 0;
    for path in ["src", "tests"].iter().flat_map(|room| all_sources(&root(room))) {
        let inside = path.strip_prefix(root("")).unwrap().with_extension("");
        let target = match inside.strip_prefix("tests") {
            Ok(test) => format!("--test {} ", test.iter().next().unwrap().display()),
            Err(_) => "--lib ".to_owned(),
        };
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.trim().starts_with("#[ignore")) {
            let runner = line.trim().trim_end_matches("\"]").rsplit(": ").next().unwrap();
            let (script, step) = runner.split_once(' ').unwrap_or((runner, ""));
            let commands = fs::read_to_string(root(script))
                .unwrap_or_else(|error| panic!("{}: {line}: {error}", path.display()));
            let is_run = commands
                .lines()
                .any(|line| line.contains(step) && line.contains(&target) && line.contains("-- --ignored"));
            assert!(is_run, "{runner} does not run {}", path.display());
            found += 1;
        }
    }
    assert!(found > 0, "none was found: this test looks for what is not there");
}
