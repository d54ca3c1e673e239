//! Words that output for people is made of.
//!
//! Owns: numbers in front of nouns, columns, short names of files. Does not know: who says what.

use std::path::Path;

/// `1 camera`, `2 cameras`, `no cameras`; for nouns that take an s.
pub fn count(n: usize, noun: &str) -> String {
    match n {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{n} {noun}s"),
    }
}

/// A file's or folder's own name, without those above it; of `.` and the like, the folder's that is meant.
pub fn base_name(path: &Path) -> String {
    let meant = if path.file_name().is_none() { path.canonicalize().ok() } else { None };
    let path = meant.as_deref().unwrap_or(path);
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Lines of a table, each column as wide as its widest word and two blanks apart.
pub fn columns<const N: usize>(rows: Vec<[String; N]>) -> Vec<String> {
    let mut widths = [0; N];
    for row in &rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = (*width).max(word.chars().count());
        }
    }
    let line = |row: [String; N]| {
        let padded: Vec<String> =
            row.iter().zip(widths).map(|(word, width)| format!("{word:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    rows.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = vec![["a", "bb"].map(str::to_owned), ["ccc", ""].map(str::to_owned)];
        assert_eq!(columns(rows), ["a    bb", "ccc"]);
    }

    #[test]
    fn a_base_name_is_the_last_name_of_a_path() {
        assert_eq!(base_name(Path::new("/home/me/garden/")), "garden");
        let here = base_name(Path::new("."));
        assert!(!here.is_empty() && !here.contains(['.', '/']), "{here}");
        assert_eq!(base_name(Path::new("/")), "/");
    }

    #[test]
    fn nouns_follow_their_numbers() {
        assert_eq!([0, 1, 2].map(|n| count(n, "camera")), ["no cameras", "1 camera", "2 cameras"]);
    }
}
