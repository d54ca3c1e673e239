//! ONNX Runtime in this process: finding the library, opening it once, and its log.
//!
//! Owns: the one environment a process may have. Does not know: models, providers, configuration. Never calls
//! `ort::init()`, which panics where no library is found.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::{native, quiet};

/// The oldest ONNX Runtime (minor version) that this build can drive: level `api-21`, which Debian 13 ships.
const OLDEST_MINOR: u32 = 21;
/// From this minor version on, the vendor's builds report usage unless `ORT_DISABLE_TELEMETRY` is set.
const REPORTING_MINOR: u32 = 29;
/// The minor version that Debian 13 ships, which links its ONNX schemas twice.
const NOISY_MINOR: u32 = 21;
/// The version the product is tested with; named in remedies.
const TESTED: &str = "1.28.0";
/// What the system's loader is asked for when no folder has a library.
const SYSTEM_NAMES: [&str; 3] = ["libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.so.1.21"];

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// ONNX Runtime, open for the life of the process.
#[derive(Debug)]
pub struct Runtime {
    environment: Environment,
    version: String,
    library: PathBuf,
}

/// Why there is no ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nothing usable was found.
    #[error(
        "no usable ONNX Runtime (1.{OLDEST_MINOR} or newer, {TESTED} advised); tried:{tried}\n\
         put libonnxruntime.so.{TESTED} into /usr/lib/vedette, install libonnxruntime1.21 (Debian 13), or set \
         inference.library to the file",
        tried = list(.tried)
    )]
    NotFound {
        /// Each place with what was wrong there.
        tried: Vec<(PathBuf, String)>,
    },
    /// The library was opened but does not start.
    #[error("ONNX Runtime {version} from {library} does not start: {reason}", library = .library.display())]
    Start {
        /// The library.
        library: PathBuf,
        /// Its version.
        version: String,
        /// What it said.
        reason: String,
    },
}

fn list(tried: &[(PathBuf, String)]) -> String {
    tried.iter().map(|(path, reason)| format!("\n  {}: {reason}", path.display())).collect()
}

impl Runtime {
    /// Opens ONNX Runtime; later calls return the same one, whatever they ask for.
    ///
    /// An explicit `library` (a file, or a folder with one) is the only place looked at: what was asked for and
    /// does not work is an error, not a reason to run something else. Without it each folder of `search` is tried
    /// (`libonnxruntime.so*`, newest version first), then the system's loader.
    ///
    /// Set `ORT_DISABLE_TELEMETRY=1` **before** any thread starts and before this call: builds from 1.29 on report
    /// usage to their vendor as soon as a session opens. This warns where it is not set, and cannot set it.
    pub fn load(library: Option<&Path>, search: &[PathBuf]) -> Result<&'static Self, RuntimeError> {
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime);
        }
        let opened = Self::open(candidates(library, search))?;
        Ok(RUNTIME.get_or_init(|| opened))
    }

    /// The library's version, such as `1.28.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The library's file.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Opens a session by `open`. What Debian's 1.21 writes to stderr with a process's first one, 567 lines about
    /// schemas registered twice, is kept from it; see [`quiet`].
    pub(crate) fn first_session<T>(&self, open: impl FnOnce() -> T) -> T {
        static BEFORE: Mutex<bool> = Mutex::new(false);
        if minor(&self.version) != Some(NOISY_MINOR) {
            return open();
        }
        let mut opened = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *opened, true) {
            drop(opened);
            return open();
        }
        quiet::without_lines(is_schema_noise, open)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    fn open(candidates: Vec<Candidate>) -> Result<Self, RuntimeError> {
        let mut tried = Vec::new();
        for candidate in candidates {
            let path = match candidate {
                Candidate::Library(path) => path,
                Candidate::Nothing(path, reason) => {
                    tried.push((path, reason));
                    continue;
                }
            };
            let checked = native::version(&path).and_then(|version| match minor(&version) {
                Some(minor) if minor >= OLDEST_MINOR => Ok(version),
                _ => Err(format!("is ONNX Runtime {version}, too old")),
            });
            match checked {
                Ok(version) => return Self::start(&path, version),
                Err(reason) => tried.push((path, reason)),
            }
        }
        Err(RuntimeError::NotFound { tried })
    }

    fn start(path: &Path, version: String) -> Result<Self, RuntimeError> {
        if minor(&version).is_some_and(|m| m >= REPORTING_MINOR)
            && std::env::var_os("ORT_DISABLE_TELEMETRY").is_none_or(|value| value == "0")
        {
            log::warn!(
                "ONNX Runtime {version} reports usage to its vendor: set ORT_DISABLE_TELEMETRY=1, or use {TESTED}"
            );
        }
        let library = mapped(path).unwrap_or_else(|| path.to_owned());
        let failed = |reason: String| RuntimeError::Start {
            library: library.clone(),
            version: version.clone(),
            reason,
        };
        let environment = ort::init_from(path)
            .map_err(|e| failed(e.to_string()))?
            .with_name("vedette")
            .with_telemetry(false)
            .with_logger(Arc::new(forward))
            .build()
            .map_err(|e| failed(e.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        log::info!(library:% = library.display(); "ONNX Runtime {version}");
        Ok(Self { environment, version, library })
    }
}

/// The harmless complaint of a library in which the ONNX schemas are linked twice, and the empty line behind each.
fn is_schema_noise(line: &str) -> bool {
    line.trim().is_empty() || (line.starts_with("Schema error: ") && line.contains("already registered"))
}

/// All at debug level: what matters comes back as an error too, and is logged once by whoever decides.
fn forward(level: LogLevel, category: &str, _id: &str, place: &str, message: &str) {
    log::debug!(target: "onnxruntime", level:? = level, category = category, place = place; "{}", message.trim_end());
}

enum Candidate {
    Library(PathBuf),
    Nothing(PathBuf, String),
}

fn candidates(library: Option<&Path>, search: &[PathBuf]) -> Vec<Candidate> {
    if let Some(path) = library {
        if path.is_dir() {
            return in_folder(path);
        }
        // `ort` looks beside the executable first where a path is relative.
        return vec![match std::path::absolute(path) {
            Ok(absolute) if absolute.exists() => Candidate::Library(absolute),
            _ => Candidate::Nothing(path.to_owned(), "no such file".to_owned()),
        }];
    }
    let folders = search.iter().flat_map(|folder| in_folder(folder));
    folders.chain(SYSTEM_NAMES.map(|name| Candidate::Library(name.into()))).collect()
}

/// The folder's libraries, newest first.
fn in_folder(folder: &Path) -> Vec<Candidate> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![Candidate::Nothing(folder.to_owned(), error.to_string())],
    };
    let folder_path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut found: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("libonnxruntime.so"))
        .collect();
    found.sort_by_cached_key(|name| std::cmp::Reverse(version_of_name(name)));
    if found.is_empty() {
        return vec![Candidate::Nothing(folder.to_owned(), "has no libonnxruntime.so*".to_owned())];
    }
    found.into_iter().map(|name| Candidate::Library(folder_path.join(name))).collect()
}

/// `libonnxruntime.so.1.28.0` -> [1, 28, 0].
fn version_of_name(name: &str) -> Vec<u32> {
    name.trim_start_matches("libonnxruntime.so").split('.').filter_map(|part| part.parse().ok()).collect()
}

fn minor(version: &str) -> Option<u32> {
    let mut parts = version.split('.');
    let major: u32 = parts.next()?.parse().ok()?;
    let minor: u32 = parts.next()?.parse().ok()?;
    Some(if major > 1 { u32::MAX } else { minor })
}

/// Where the loader found a bare name: the kernel's list of mapped files knows.
fn mapped(path: &Path) -> Option<PathBuf> {
    if path.is_absolute() {
        return None;
    }
    let name = path.to_str()?.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line =
        maps.lines().find(|line| line.rsplit('/').next().is_some_and(|file| file.starts_with(name)))?;
    Some(PathBuf::from(&line[line.find('/')?..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_of_a_folder_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.28.0", "libonnxruntime_providers_shared.so"]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = in_folder(folder.path())
            .into_iter()
            .map(|c| match c {
                Candidate::Library(path) => path.file_name().unwrap().to_owned(),
                Candidate::Nothing(path, reason) => panic!("{}: {reason}", path.display()),
            })
            .collect();
        assert_eq!(names, ["libonnxruntime.so.1.28.0", "libonnxruntime.so.1.9.0"]);
    }

    #[test]
    fn every_place_tried_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("libonnxruntime.so.1.2.3"), "not a library").unwrap();
        let places = [folder.path().to_owned(), folder.path().join("absent")];
        let candidates = places.iter().flat_map(|place| in_folder(place)).collect();
        let error = Runtime::open(candidates).unwrap_err().to_string();
        for part in ["libonnxruntime.so.1.2.3: ", "absent: No such file", "inference.library", "1.28.0"] {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }

    #[test]
    fn what_was_asked_for_is_not_replaced() {
        let error =
            Runtime::open(candidates(Some(Path::new("/nowhere/libonnxruntime.so")), &[])).unwrap_err();
        let RuntimeError::NotFound { tried } = &error else { panic!("{error}") };
        assert_eq!(tried.len(), 1);
        assert!(error.to_string().contains("/nowhere/libonnxruntime.so: no such file"), "{error}");
    }

    #[test]
    fn a_library_that_is_something_else_is_told_apart() {
        let error = native::version(Path::new("libc.so.6")).unwrap_err();
        assert_eq!(error, "is no ONNX Runtime (exports no OrtGetApiBase)");
    }

    #[test]
    fn only_the_complaint_about_schemas_is_noise() {
        let twice = "Schema error: Trying to register schema with name Relu ... but it is already registered from file";
        assert!(is_schema_noise(twice) && is_schema_noise("\n"));
        assert!(
            !is_schema_noise("terminate called: already registered") && !is_schema_noise("Schema error: bad")
        );
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!((minor("1.21.0"), minor("2.0.1"), minor("x")), (Some(21), Some(u32::MAX), None));
    }
}
