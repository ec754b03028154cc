//! The page of guarantees names the test that proves each line; the tests are there.

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
    for name in names {
        // Behind `#[test]`, or behind an `#[ignore = "…"]` whose runner stands beside the name.
        let is_there = [
            format!("#[test]\nfn {name}()"),
            format!("\"]\nfn {name}()"),
            format!("\n    {name}, at_least "),
        ];
        let is_script = name.starts_with(".ci/") && root.join(name).exists();
        assert!(is_script || is_there.iter().any(|text| sources.contains(text)), "there is no test {name}");
    }
}
