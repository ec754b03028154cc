//! A disk that forgets what was not synced.
//!
//! What POSIX and a journal promise, and nothing beyond it: the bytes of a file are safe when the file was synced,
//! a name when its directory was. Until then each change of a name may be on the disk or not, whatever came before
//! or after it, and of a file's bytes there may be what was synced last, any later state, half of a write, or a
//! length without its bytes. A rename happens wholly or not at all.

use super::trace::Call;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// What is under the root after the power came back: files with their bytes, directories without.
pub type Remains = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// With more changes of names at once than this, not each subset of them is looked at.
const MOST_SUBSETS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

/// A change of names within one directory, which a power cut may undo.
#[derive(Clone, Debug)]
struct Change {
    set: Option<(PathBuf, Node)>,
    cleared: Option<PathBuf>,
}

impl Change {
    fn directory(&self) -> &Path {
        let path = self.set.as_ref().map(|(path, _)| path).or(self.cleared.as_ref()).unwrap();
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(path) = &self.cleared {
            names.remove(path);
        }
        if let Some((path, node)) = &self.set {
            names.insert(path.clone(), *node);
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Of each file the bytes as they were synced last, then as each call since left them.
    files: Vec<Vec<Vec<u8>>>,
    /// As every process sees them.
    names: BTreeMap<PathBuf, Node>,
    /// As the disk has them for certain.
    durable: BTreeMap<PathBuf, Node>,
    changes: Vec<Change>,
    /// Where the next write through a descriptor goes.
    positions: HashMap<u32, usize>,
}

impl Disk {
    /// A disk on which all this is safe.
    pub fn holding(remains: &Remains) -> Self {
        let mut disk = Self::default();
        for (path, bytes) in remains {
            let node = match bytes {
                None => Node::Directory,
                Some(bytes) => disk.add_file(bytes.clone()),
            };
            disk.names.insert(path.clone(), node);
        }
        disk.durable = disk.names.clone();
        disk
    }

    fn add_file(&mut self, bytes: Vec<u8>) -> Node {
        self.files.push(vec![bytes]);
        Node::File(self.files.len() - 1)
    }

    /// The states of the file that has this name; none where it lost its name while it was open.
    fn file(&mut self, path: &Path) -> Option<&mut Vec<Vec<u8>>> {
        match self.names.get(path) {
            Some(Node::File(number)) => Some(&mut self.files[*number]),
            _ => None,
        }
    }

    fn change(&mut self, set: Option<(PathBuf, Node)>, cleared: Option<PathBuf>) {
        let change = Change { set, cleared };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub fn perform(&mut self, call: &Call) {
        match call {
            Call::Open { path, descriptor, creates } => {
                self.positions.insert(*descriptor, 0);
                if !self.names.contains_key(path) {
                    assert!(creates, "{} was not there", path.display());
                    let node = self.add_file(Vec::new());
                    self.change(Some((path.clone(), node)), None);
                }
            }
            Call::Write { path, descriptor, offset, bytes } => {
                let position = self.positions.entry(*descriptor).or_default();
                let at = offset.unwrap_or(*position);
                if offset.is_none() {
                    *position += bytes.len();
                }
                let Some(states) = self.file(path) else { return };
                let mut now = states.last().unwrap().clone();
                now.resize(now.len().max(at + bytes.len()), 0);
                now[at..at + bytes.len()].copy_from_slice(bytes);
                states.push(now);
            }
            Call::SetLength { path, length } => {
                let Some(states) = self.file(path) else { return };
                let mut now = states.last().unwrap().clone();
                now.resize(*length, 0);
                states.push(now);
            }
            Call::Sync { path } if self.names.get(path) == Some(&Node::Directory) => {
                let (synced, left) =
                    self.changes.drain(..).partition(|change: &Change| change.directory() == path);
                self.changes = left;
                synced.iter().for_each(|change| change.apply(&mut self.durable));
            }
            Call::Sync { path } => {
                let Some(states) = self.file(path) else { return };
                states.drain(..states.len() - 1);
            }
            Call::Link { from, to } => self.change(Some((to.clone(), self.names[from])), None),
            Call::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent(), "not modelled: a rename between directories");
                self.change(Some((to.clone(), self.names[from])), Some(from.clone()));
            }
            Call::Unlink { path } => self.change(None, Some(path.clone())),
            Call::MakeDirectory { path } => self.change(Some((path.clone(), Node::Directory)), None),
            Call::Sent | Call::Received | Call::Noted => {}
        }
    }

    /// What every process sees while the power lasts.
    pub fn seen(&self) -> Remains {
        self.names.iter().map(|(path, node)| (path.clone(), self.bytes(*node, usize::MAX))).collect()
    }

    fn bytes(&self, node: Node, state: usize) -> Option<Vec<u8>> {
        let Node::File(number) = node else { return None };
        let states = &self.files[number];
        Some(states[state.min(states.len() - 1)].clone())
    }

    /// Every state that may remain if the power is cut now.
    pub fn after_a_power_cut(&self) -> BTreeSet<Remains> {
        let mut all = BTreeSet::new();
        for survivors in subsets(self.changes.len()) {
            let mut names = self.durable.clone();
            survivors.iter().for_each(|number| self.changes[*number].apply(&mut names));
            let is_there = |path: &Path| names.contains_key(path) || !self.names.contains_key(path);
            let lost: Vec<PathBuf> =
                names.keys().filter(|path| !path.ancestors().skip(1).all(is_there)).cloned().collect();
            names.retain(|path, _| !lost.contains(path));
            let mut files: BTreeMap<usize, BTreeSet<Vec<u8>>> = BTreeMap::new();
            for node in names.values() {
                if let Node::File(number) = node {
                    files.entry(*number).or_insert_with(|| bytes_after_a_power_cut(&self.files[*number]));
                }
            }
            for chosen in combinations(&files) {
                let remains = names.iter().map(|(path, node)| match node {
                    Node::Directory => (path.clone(), None),
                    Node::File(number) => (path.clone(), Some(chosen[number].clone())),
                });
                all.insert(remains.collect());
            }
        }
        all
    }
}

/// Into how many parts a write is cut.
const PARTS: usize = 8;

/// Each state since the last sync, and each step between two of them done in part: the beginning and nothing else, the
/// beginning before what was there, or before zeros; and a length without any bytes.
fn bytes_after_a_power_cut(states: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let mut all: BTreeSet<Vec<u8>> = states.iter().cloned().collect();
    for step in states.windows(2) {
        let (old, new) = (&step[0], &step[1]);
        for part in 0..PARTS {
            let (beginning, rest) = new.split_at(new.len() * part / PARTS);
            let old_rest: Vec<u8> = old.iter().copied().skip(beginning.len()).collect();
            all.insert(beginning.to_vec());
            all.insert([beginning, &old_rest].concat());
            all.insert([beginning, &vec![0; rest.len()]].concat());
        }
    }
    all
}

/// Which of so many changes survive: all subsets of a few; of many the beginnings, and all but one or two.
fn subsets(count: usize) -> Vec<Vec<usize>> {
    if count <= MOST_SUBSETS {
        let bits = |set: usize| (0..count).filter(|bit| set >> bit & 1 == 1).collect();
        return (0..1 << count).map(bits).collect();
    }
    let without = |a: usize, b: usize| (0..count).filter(|number| *number != a && *number != b).collect();
    let pairs = (0..count).flat_map(|a| (a..count).map(move |b| (a, b)));
    (0..=count).map(|end| (0..end).collect()).chain(pairs.map(|(a, b)| without(a, b))).collect()
}

/// One choice for each file, in every combination.
fn combinations(files: &BTreeMap<usize, BTreeSet<Vec<u8>>>) -> Vec<BTreeMap<usize, Vec<u8>>> {
    let mut all = vec![BTreeMap::new()];
    for (number, choices) in files {
        all = all
            .iter()
            .flat_map(|chosen| {
                choices.iter().map(move |bytes| {
                    let mut chosen: BTreeMap<usize, Vec<u8>> = chosen.clone();
                    chosen.insert(*number, bytes.clone());
                    chosen
                })
            })
            .collect();
    }
    all
}
