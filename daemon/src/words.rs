//! Words that output for people is made of.
//!
//! Owns: numbers in front of nouns. Does not know: who says what.

/// `1 camera`, `2 cameras`, `no cameras`; for nouns that take an s.
pub fn count(n: usize, noun: &str) -> String {
    match n {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_follow_their_numbers() {
        assert_eq!([0, 1, 2].map(|n| count(n, "camera")), ["no cameras", "1 camera", "2 cameras"]);
    }
}
