//! Which word was meant by a mistyped one.

/// The name that `word` is the beginning of, or else the one with the smallest edit distance, if that is at most a
/// third of the length of `word`.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |word: &str| word.trim_start_matches('-').chars().count();
    let allowed = (letters(word) / 3).max(1);
    let distance = |name: &str| {
        let is_beginning = letters(word) >= 3 && name.starts_with(word);
        if is_beginning { 0 } else { edit_distance(word, name) }
    };
    let near = names.map(|name| (distance(name), name)).filter(|(distance, _)| *distance <= allowed);
    near.min().map(|(_, name)| name)
}

/// The longest word that is compared, in characters. It bounds the work.
const LONGEST_WORD: usize = 64;

/// The number of letters to insert, remove, replace or swap with their neighbour until `from` is `to`.
fn edit_distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(LONGEST_WORD).collect();
    let to: Vec<char> = to.chars().take(LONGEST_WORD).collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(from.len() + to.len());
    let mut older = Vec::new();
    let mut old: Vec<usize> = (0..=from.len()).collect();
    for (line, wanted) in to.iter().enumerate() {
        let mut row = vec![line + 1];
        for (column, letter) in from.iter().enumerate() {
            let replaced = at(&old, column) + usize::from(letter != wanted);
            let least = replaced.min(at(&old, column + 1) + 1).min(at(&row, column) + 1);
            let is_swapped =
                |column: usize, line: usize| from.get(column) == Some(wanted) && to.get(line) == Some(letter);
            row.push(match (column.checked_sub(1), line.checked_sub(1)) {
                (Some(column), Some(line)) if is_swapped(column, line) => least.min(at(&older, column) + 1),
                _ => least,
            });
        }
        older = std::mem::replace(&mut old, row);
    }
    at(&old, from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_counts_single_mistakes() {
        for (from, to, distance) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("", "ab", 2),
            ("ab", "", 2),
            ("logni", "login", 1),
        ] {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }
}
