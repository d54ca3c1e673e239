//! How a diagnostic speaks: did-you-mean, lists of what there is, serde's messages in plain words.

/// More words than this bury a guess, such as the 80 classes of COCO.
const SCREEN: usize = 20;

/// How alike two words must be for "did you mean" (Jaro-Winkler, 0..1).
const ALIKE: f64 = 0.8;

/// One slip of the finger (a letter lost, added, changed or swapped) in a short word says the same.
const ONE_SLIP: f64 = 0.85;

fn likeness(word: &str, known: &str) -> f64 {
    let slipped = word.len() >= 3 && strsim::osa_distance(word, known) == 1;
    strsim::jaro_winkler(word, known).max(if slipped { ONE_SLIP } else { 0.0 })
}

/// The known word most like `word`.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (likeness(word, k), k))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, k)| k)
}

/// `; did you mean …?` and what there is, to be hung behind "unknown …".
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all: Vec<&str> = known.clone().into_iter().collect();
    if all.is_empty() {
        return String::new();
    }
    let guess = nearest(word, known).map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
    if !guess.is_empty() && all.len() > SCREEN {
        return guess;
    }
    format!("{guess} (there {}: {})", if all.len() == 1 { "is" } else { "are" }, all.join(", "))
}

/// Serde's message about `key` in words of the file instead of words of Rust; `secret` leaves the value out.
pub(super) fn plain(message: &str, secret: bool, key: &str) -> String {
    let message = message.lines().next().unwrap_or_default().trim();
    let (found, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let found = if secret {
        // "invalid type: integer `1234`" → "invalid type: integer"
        found.split(['`', '"']).next().unwrap_or_default().trim_end()
    } else {
        found
    };
    let found = found.replace("invalid type: map", "invalid type: table").replace("sequence", "list");
    if expected.is_empty() {
        return format!("`{key}`: {found}");
    }
    let expected = match expected {
        "a map" => "a table",
        "path string" => "a path in quotes",
        "a sequence" => "a list",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "f32" | "f64" => "a number",
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.contains("variant identifier") || expected.starts_with("enum ") => "one of its words",
        // The only lists of fixed length are points.
        "an array of length 2" | "fewer elements in array" => "a point: [x, y]",
        other => other,
    };
    let given = found.strip_prefix("unknown variant `").and_then(|rest| rest.split('`').next());
    let guess = given.and_then(|word| nearest(word, expected.split('`').skip(1).step_by(2)));
    let guess = guess.map_or_else(String::new, |g| format!("; did you mean `{g}`?"));
    format!("`{key}`: {found}, expected {expected}{guess}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_in_plain_words() {
        struct Case(&'static str, &'static str);
        let cases = [
            Case(
                "invalid type: floating point `1.7`, expected usize\n",
                "invalid type: floating point `1.7`, expected a whole number, 0 or more",
            ),
            Case("invalid type: map, expected a string", "invalid type: table, expected a string"),
            Case(
                "invalid type: string \"x\", expected struct RawCamera",
                "invalid type: string \"x\", expected a table",
            ),
            Case(
                "unknown variant `tpc`, expected `tcp` or `udp`",
                "unknown variant `tpc`, expected `tcp` or `udp`; did you mean `tcp`?",
            ),
            Case("`Yard` is not a name", "`Yard` is not a name"),
        ];
        for Case(message, expected) in cases {
            assert_eq!(plain(message, false, "k"), format!("`k`: {expected}"));
        }
        assert_eq!(
            plain("invalid type: integer `1234`, expected a string", true, "password"),
            "`password`: invalid type: integer, expected a string"
        );
    }

    #[test]
    fn hints_list_what_there_is() {
        assert_eq!(hint("yrad", ["yard", "door"]), "; did you mean `yard`? (there are: yard, door)");
        assert_eq!(hint("x", ["yard"]), " (there is: yard)");
        assert_eq!(hint("x", []), "");
        let many: Vec<String> = (0..80).map(|n| format!("class-{n}")).chain(["person".to_owned()]).collect();
        let many = || many.iter().map(String::as_str);
        assert_eq!(hint("persn", many()), "; did you mean `person`?");
        assert!(hint("zebra", many()).ends_with("class-79, person)"));
    }
}
