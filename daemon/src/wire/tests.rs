//! The list of dialects.

use super::*;

#[test]
fn dialects_are_found_by_name_and_names_are_unique() {
    for (at, one) in DIALECTS.iter().enumerate() {
        assert_eq!(dialect(one.name).map(|kind| kind.name), Some(one.name));
        assert!(DIALECTS[..at].iter().all(|other| other.name != one.name), "{}", one.name);
        // The one setting without a default.
        let custom = CustomSettings { topic: "t".to_owned(), ..CustomSettings::default() };
        let built = (one.build)(&Settings { custom, ..Settings::default() }).unwrap();
        assert_eq!(built.name(), one.name);
    }
    assert!(dialect("morse").is_none());
}
