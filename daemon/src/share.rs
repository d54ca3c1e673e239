//! Where the read-only data lies that comes with the program: descriptions, manifests, weights, schemas; and where
//! ONNX Runtime may be.
//!
//! Owns: the order of the search, for packages and for a checkout. Does not know: what is in the files.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a package puts the data.
const INSTALLED: &str = "/usr/share/vedette";

/// The found data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    root: PathBuf,
    layout: Layout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `descriptions`, `manifests`, `weights`, `schemas` side by side.
    Installed,
    /// `pipelines/descriptions`, `models/manifests`, `models/weights`, `etc/schemas`.
    Checkout,
}

/// There is no data at any of the places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareError {
    /// The places that were looked at, in order.
    pub tried: Vec<PathBuf>,
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried: Vec<String> = self.tried.iter().map(|p| p.display().to_string()).collect();
        write!(
            f,
            "pipeline descriptions and model manifests not found in {}: name their folder with --share DIR or \
             VEDETTE_SHARE",
            tried.join(", ")
        )
    }
}

impl std::error::Error for ShareError {}

impl Share {
    /// Looks at `explicit` (`--share`), at `variable` (`$VEDETTE_SHARE`), beside the executable's folder, in
    /// `/usr/share/vedette`, and up from the executable for a checkout. A place that was named counts alone.
    ///
    /// # Errors
    /// Where no place holds the data; names all that were tried.
    pub fn find(
        explicit: Option<&Path>,
        variable: Option<&Path>,
        executable: Option<&Path>,
    ) -> Result<Self, ShareError> {
        let mut places: Vec<PathBuf> = Vec::new();
        if let Some(named) = explicit.or(variable) {
            places.push(named.to_owned());
        } else {
            let bin = executable.and_then(Path::parent);
            places.extend(bin.and_then(Path::parent).map(|prefix| prefix.join("share/vedette")));
            places.push(PathBuf::from(INSTALLED));
            places.extend(bin.into_iter().flat_map(Path::ancestors).map(Path::to_owned));
            places.retain(|place| !place.as_os_str().is_empty());
            places.dedup();
        }
        let found = places.iter().find_map(|place| {
            let layout = [Layout::Installed, Layout::Checkout].into_iter().find(|l| l.is_at(place))?;
            Some(Self { root: place.clone(), layout })
        });
        found.ok_or(ShareError { tried: places })
    }

    /// [`Share::find`] for this process.
    ///
    /// # Errors
    /// As [`Share::find`].
    pub fn locate(explicit: Option<&Path>) -> Result<Self, ShareError> {
        let variable = std::env::var_os("VEDETTE_SHARE").map(PathBuf::from);
        let executable = std::env::current_exe().ok();
        Self::find(explicit, variable.as_deref(), executable.as_deref())
    }

    /// The folder that all else lies in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Ingest pipelines, one TOML file each.
    pub fn descriptions(&self) -> PathBuf {
        self.root.join(self.layout.folders()[0])
    }

    /// Models, one TOML file each.
    pub fn manifests(&self) -> PathBuf {
        self.root.join(self.layout.folders()[1])
    }

    /// The files that manifests name.
    pub fn weights(&self) -> PathBuf {
        self.root.join(self.layout.folders()[2])
    }

    /// JSON Schemas of configuration and messages.
    pub fn schemas(&self) -> PathBuf {
        self.root.join(self.layout.folders()[3])
    }
}

impl Layout {
    fn folders(self) -> [&'static str; 4] {
        match self {
            Self::Installed => ["descriptions", "manifests", "weights", "schemas"],
            Self::Checkout => ["pipelines/descriptions", "models/manifests", "models/weights", "etc/schemas"],
        }
    }

    fn is_at(self, root: &Path) -> bool {
        let [descriptions, manifests, ..] = self.folders();
        root.join(descriptions).is_dir() && root.join(manifests).is_dir()
    }
}

/// Folders in which ONNX Runtime's library is looked for before the system's, in order: `$VEDETTE_ONNXRUNTIME`, the
/// package's, the cache that a checkout downloads into. `variable` looks up the environment.
pub fn onnxruntime_folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
    let mut folders = Vec::new();
    folders.extend(path("VEDETTE_ONNXRUNTIME"));
    folders.push(PathBuf::from("/usr/lib/vedette"));
    folders.extend(cache.map(|cache| cache.join("vedette/onnxruntime")));
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, folders: &[&str]) {
        for folder in folders {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
    }

    #[test]
    fn an_installed_program_finds_its_share() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &["usr/bin", "usr/share/vedette/descriptions", "usr/share/vedette/manifests"]);
        let share = Share::find(None, None, Some(&root.path().join("usr/bin/vedette"))).unwrap();
        assert_eq!(share.descriptions(), root.path().join("usr/share/vedette/descriptions"));
        assert_eq!(share.weights(), root.path().join("usr/share/vedette/weights"));
    }

    #[test]
    fn a_built_program_finds_its_checkout() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &["target/debug/deps", "pipelines/descriptions", "models/manifests"]);
        let share = Share::find(None, None, Some(&root.path().join("target/debug/deps/vedette"))).unwrap();
        assert_eq!(share.root(), root.path());
        assert_eq!(share.manifests(), root.path().join("models/manifests"));
        assert_eq!(share.schemas(), root.path().join("etc/schemas"));
    }

    #[test]
    fn a_named_place_counts_alone_and_errors_list_places() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &["bin", "share/vedette/descriptions", "share/vedette/manifests"]);
        let program = root.path().join("bin/vedette");
        let wrong = Share::find(Some(Path::new("/nowhere")), None, Some(&program)).unwrap_err();
        assert_eq!(wrong.tried, [Path::new("/nowhere")]);
        assert!(wrong.to_string().contains("/nowhere") && wrong.to_string().contains("--share"));
        let named = root.path().join("share/vedette");
        assert!(Share::find(None, Some(&named), None).is_ok());
    }

    #[test]
    fn onnxruntime_is_looked_for_in_order() {
        let lookup = |name: &str| match name {
            "HOME" => Some(OsString::from("/home/me")),
            "VEDETTE_ONNXRUNTIME" => Some(OsString::from("/opt/ort")),
            _ => None,
        };
        assert_eq!(
            onnxruntime_folders(lookup),
            ["/opt/ort", "/usr/lib/vedette", "/home/me/.cache/vedette/onnxruntime"].map(PathBuf::from)
        );
    }
}
