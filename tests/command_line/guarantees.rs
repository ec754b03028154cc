//! The pages of guarantees and of security name the test that proves each line; the tests are there.

use std::fs;
use std::path::Path;

/// Fewer names than the page has: with fewer, nothing was checked.
const FEWEST_NAMES: usize = 20;

fn texts(path: &Path, texts: &mut String) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            self::texts(&entry.unwrap().path(), texts);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        texts.push_str(&fs::read_to_string(path).unwrap());
    }
}

/// A sentence in lower case, without spaces.
fn is_test_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.bytes().all(is_allowed) && name.matches('_').count() >= 3
}

/// A test is a function, an entry of the table of searches, of which each is a test, or a script of CI.
#[test]
fn each_test_that_the_guarantees_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    texts(&root.join("src"), &mut sources);
    texts(&root.join("tests"), &mut sources);
    let page = fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    let proofs = page.split("\n\n").filter_map(|paragraph| paragraph.split_once("Proved by"));
    let names: Vec<&str> = proofs.flat_map(|(_, proof)| proof.split('`').skip(1).step_by(2)).collect();
    assert!(names.len() >= FEWEST_NAMES, "only {names:?}");
    let security = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let of_security = security.split('`').skip(1).step_by(2).filter(|name| is_test_name(name));
    assert!(of_security.clone().count() >= FEWEST_NAMES);
    for name in names.into_iter().chain(of_security) {
        // Behind `#[test]`, or behind an `#[ignore = "…"]` with the name of its runner.
        let is_there = [
            format!("#[test]\nfn {name}()"),
            format!("#[test]\n    fn {name}()"),
            format!("#[test]\n    #[rustfmt::skip]\n    fn {name}()"),
            format!("\"]\nfn {name}()"),
            format!("\n    {name}, at_least "),
        ];
        let (script, step) = name.split_once(' ').unwrap_or((name, ""));
        let has_step = |commands: String| {
            let mut lines = commands.lines().map(|line| line.split_whitespace().skip(1));
            step.is_empty() || lines.any(|mut words| words.next() == Some(step))
        };
        let is_script = name.starts_with(".ci/") && fs::read_to_string(root.join(script)).is_ok_and(has_step);
        assert!(is_script || is_there.iter().any(|text| sources.contains(text)), "there is no test {name}");
    }
}
