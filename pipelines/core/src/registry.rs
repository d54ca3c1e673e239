//! One word adds a kind: `registry! { dyn RuleConfig: intrusion, line_crossing, }` declares the modules **and** the
//! table of what there is, so that a new rule, learner, family or dialect is one new file plus one word.
//!
//! Each module must export `Config` (serde + schemars, implements the trait) and `ABOUT: &str`.
//! `cargo fmt` does not see files that a macro declares: `./dev test` runs rustfmt over all tracked files instead.

/// One entry of a registry: a kind that configuration can name.
pub struct Kind<T: ?Sized> {
    /// As written in the configuration; `_` separates words.
    pub name: &'static str,
    /// One line for `--help`, the README's tables and the schema.
    pub about: &'static str,
    /// Reads the kind's configuration, defaults filled in.
    pub parse: fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<T>, erased_serde::Error>,
    /// The JSON Schema of the kind's configuration.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

impl<T: ?Sized> std::fmt::Debug for Kind<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Finds a kind by name, or says which there are.
pub fn find<T: ?Sized>(all: &'static [Kind<T>], name: &str) -> Result<&'static Kind<T>, UnknownKind> {
    all.iter().find(|k| k.name == name).ok_or_else(|| UnknownKind {
        name: name.to_owned(),
        known: all.iter().map(|k| k.name).collect::<Vec<_>>().join(", "),
    })
}

/// A name that no registry entry has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no kind `{name}`; there are: {known}")]
pub struct UnknownKind {
    /// The name asked for.
    pub name: String,
    /// Those there are.
    pub known: String,
}

/// Declares modules and the table of their kinds: `registry! { dyn Trait: module, module, }`.
#[macro_export]
macro_rules! registry {
    (dyn $trait:path: $($module:ident),+ $(,)?) => {
        $(pub mod $module;)+
        /// Every kind there is, in the order of the list.
        pub const ALL: &[$crate::Kind<dyn $trait>] = &[$($crate::Kind {
            name: stringify!($module),
            about: $module::ABOUT,
            parse: |deserializer| {
                let config: $module::Config = $crate::__erased_serde::deserialize(deserializer)?;
                Ok(Box::new(config) as Box<dyn $trait>)
            },
            schema: |generator| generator.subschema_for::<$module::Config>(),
        }),+];
    };
}
