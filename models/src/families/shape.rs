//! Shapes of outputs: what was expected against what is there, in words. Pure.

use toml::Value;
use vedette_core::Role;

use super::{Guess, Output, ShapeMismatch};

/// The shape of output `name` if it has these axes: a number must be met (or unknown, -1), what begins with a letter is
/// any size. A number that no axis can have is met by none.
pub(super) fn expect<'a>(
    outputs: &'a [(String, Vec<i64>)],
    name: &str,
    axes: &[&str],
) -> Result<&'a [i64], ShapeMismatch> {
    let found = outputs.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.as_slice());
    let fits = |shape: &&[i64]| {
        let any = |axis: &str| axis.starts_with(|c: char| c.is_ascii_alphabetic());
        let meets = |(found, axis): (&i64, &&str)| match axis.parse::<i64>() {
            Ok(number) => *found < 0 || *found == number,
            Err(_) => any(axis),
        };
        shape.len() == axes.len() && shape.iter().zip(axes).all(meets)
    };
    found.filter(fits).ok_or_else(|| mismatch(name, &format!("[{}]", axes.join(", ")), found))
}

/// The output at `index` of what a session hands over.
pub(super) fn output<'a>(
    outputs: &[Output<'a>],
    index: usize,
    name: &str,
) -> Result<Output<'a>, ShapeMismatch> {
    outputs.get(index).copied().ok_or_else(|| mismatch(name, "there", None))
}

/// Rows and columns of a tensor whose last two axes they are, all others being 1; its length is as it says.
pub(super) fn matrix(output: &Output<'_>) -> Result<(usize, usize), ShapeMismatch> {
    let wrong = || {
        let found = format!("{:?} with {} values", output.shape, output.data.len());
        ShapeMismatch { output: output.name.to_owned(), expected: "[1, rows, columns]".to_owned(), found }
    };
    let [leading @ .., rows, columns] = output.shape else { return Err(wrong()) };
    let size = |axis: i64| usize::try_from(axis).map_err(|_| wrong());
    let (rows, columns) = (size(*rows)?, size(*columns)?);
    if leading.iter().any(|axis| *axis != 1) || rows.checked_mul(columns) != Some(output.data.len()) {
        return Err(wrong());
    }
    Ok((rows, columns))
}

/// That a number of the `[family]` table lies within what any network of the kind has.
pub(super) fn within<T: Copy + PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    bounds: std::ops::RangeInclusive<T>,
) -> Result<(), ShapeMismatch> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}", bounds.start(), bounds.end());
    Err(ShapeMismatch { output: format!("family.{key}"), expected, found: value.to_string() })
}

/// Says what `output` should be and is.
pub(super) fn mismatch(output: &str, expected: &str, found: Option<&[i64]>) -> ShapeMismatch {
    let found = found.map_or("absent".to_owned(), |shape| format!("{shape:?}"));
    ShapeMismatch { output: output.to_owned(), expected: expected.to_owned(), found }
}

/// A guess with these keys in its table.
pub(super) fn guess<const N: usize>(role: Role, labels: usize, doubt: u8, keys: [(&str, Value); N]) -> Guess {
    let table = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Guess { table, labels, role, doubt }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_beyond_all_axes_is_no_letter() {
        let outputs = [("out".to_owned(), vec![1, 32])];
        assert!(expect(&outputs, "out", &["1", "N"]).is_ok());
        for axis in ["18446744073709551615", "9223372036854775808", "", "33"] {
            assert!(expect(&outputs, "out", &["1", axis]).is_err(), "{axis}");
        }
        let open = [("out".to_owned(), vec![1, -1])];
        assert!(expect(&open, "out", &["1", "18446744073709551615"]).is_err());
    }
}
