//! Unsafe code, announced: the daemon's only file with any. It sets environment variables that libraries read when
//! they are loaded, before any second thread exists, asks the kernel whether code may be generated at run time, bounds
//! what the allocator keeps, and keeps memory, where the secrets are, to the process itself.
//!
//! Owns: `ORT_DISABLE_TELEMETRY`, `GST_REGISTRY`, `GST_DEBUG_NO_COLOR`, `ORC_CODE`, the number of arenas. Does not
//! know: the libraries.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A variable that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub name: &'static str,
    /// To what.
    pub value: OsString,
    /// Why, for the log; `None` where nobody needs to know.
    pub notice: Option<&'static str>,
}

/// There is more than one thread: setting a variable now could crash one that reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("environment variables can only be set before the first thread starts; there are {0} threads")]
pub struct ThreadsRunning(pub usize);

/// Sets what the libraries need. To be called first thing in `main`; what was set can be logged later.
///
/// # Errors
/// Where another thread runs already; nothing is set then.
pub fn prepare() -> Result<Vec<Setting>, ThreadsRunning> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(ThreadsRunning(threads));
    }
    bound_arenas();
    keep_memory_private();
    let settings = plan(&|name| std::env::var_os(name), &code_may_be_generated);
    for setting in &settings {
        // SAFETY: `set_var` is unsound only while another thread reads or writes the environment; the count above
        // shows that this thread is the only one, and none is started in between.
        unsafe { std::env::set_var(setting.name, &setting.value) };
    }
    Ok(settings)
}

/// No core file, and no other process of the same user may read memory or attach a debugger. The limit alone would not
/// do: the kernel ignores it where cores are piped to a program.
fn keep_memory_private() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `setrlimit` only reads the structure, which outlives the call. Lowering a limit is always allowed.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    // SAFETY: `prctl` with this option takes one number and touches no memory of this process.
    let _ = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
}

/// Two arenas for all threads. glibc gives each new thread another one, up to eight a core, and a reconnection starts a
/// dozen threads: memory grew by 17 MiB over a dozen reconnections of a 360p camera, and by 3 MiB with two.
#[cfg(target_env = "gnu")]
pub fn bound_arenas() {
    // SAFETY: `mallopt` takes the allocator's own lock and may be called at any time; arenas that exist stay. What it
    // cannot set stays as it was, which costs memory only.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Only glibc has arenas.
#[cfg(not(target_env = "gnu"))]
pub fn bound_arenas() {}

/// Gives memory that is freed back to the system, so that what is resident is what is held: before it is measured.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: `malloc_trim` takes the allocator's own locks and may be called at any time; it touches free memory alone.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other allocators give it back by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What to set; variables that the user set are left alone, but for telemetry.
fn plan(variable: Lookup<'_>, may_generate: &dyn Fn(Lookup<'_>) -> bool) -> Vec<Setting> {
    // ONNX Runtime opens no connection with this; nothing but events leaves the box.
    let mut settings =
        vec![Setting { name: "ORT_DISABLE_TELEMETRY", value: OsString::from("1"), notice: None }];
    let unset = |name: &str| variable(name).is_none();
    if unset("GST_DEBUG_NO_COLOR") {
        settings.push(Setting { name: "GST_DEBUG_NO_COLOR", value: OsString::from("1"), notice: None });
    }
    // Without a registry that can be written, GStreamer scans all plugins at each start.
    // systemd gives several folders with colons between them.
    let cache = variable("CACHE_DIRECTORY").and_then(|c| std::env::split_paths(&c).next());
    if let Some(cache) = cache.filter(|c| c.is_absolute() && unset("GST_REGISTRY")) {
        let registry = cache.join("gst-registry.bin");
        settings.push(Setting { name: "GST_REGISTRY", value: registry.into(), notice: None });
    }
    if unset("ORC_CODE") && !may_generate(variable) {
        settings.push(Setting {
            name: "ORC_CODE",
            value: OsString::from("backup"),
            notice: Some(
                "no writable folder allows executable files: GStreamer's picture conversion runs without generated \
                 code, at about twice the cost; set TMPDIR to a folder that is not mounted noexec",
            ),
        });
    }
    settings
}

/// GStreamer's ORC generates code into a file in one of these folders, or into anonymous memory; where neither is
/// allowed it aborts the whole process (seen with 0.4.33), so it must be told before.
fn code_may_be_generated(variable: Lookup<'_>) -> bool {
    let folders = ["XDG_RUNTIME_DIR", "HOME", "TMPDIR"].into_iter().filter_map(variable).map(PathBuf::from);
    folders.chain([PathBuf::from("/tmp")]).any(|folder| file_may_execute(&folder)) || memory_may_execute()
}

const PAGE: usize = 4096;

/// Whether a new file in `folder` can be mapped executable.
fn file_may_execute(folder: &Path) -> bool {
    let path = folder.join(format!(".vedette-probe-{}", std::process::id()));
    let Ok(mut file) = OpenOptions::new().read(true).write(true).create_new(true).open(&path) else {
        return false;
    };
    let allowed = file.write_all(&[0; PAGE]).is_ok() && map_executable(&file);
    let _ = std::fs::remove_file(&path);
    allowed
}

fn map_executable(file: &File) -> bool {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: a null hint lets the kernel choose a free range, so no memory in use is replaced; the file is a page
    // long. Nothing is read or run through the map.
    let map = unsafe {
        mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::EXEC, MapFlags::SHARED, file, 0)
    };
    let Ok(start) = map else { return false };
    // SAFETY: exactly the range mapped above, to which no reference was made.
    let _ = unsafe { munmap(start, PAGE) };
    true
}

fn memory_may_execute() -> bool {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    let all = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
    // SAFETY: a null hint lets the kernel choose a free range; nothing is read, written or run through the map.
    let map = unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE, all, MapFlags::PRIVATE) };
    let Ok(start) = map else { return false };
    // SAFETY: exactly the range mapped above, to which no reference was made.
    let _ = unsafe { munmap(start, PAGE) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variables: &[(&str, &str)], may_generate: bool) -> Vec<String> {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        plan(&lookup, &|_| may_generate)
            .iter()
            .map(|s| format!("{}={}", s.name, s.value.to_string_lossy()))
            .collect()
    }

    #[test]
    fn only_what_is_needed_is_set() {
        assert_eq!(names(&[], true), ["ORT_DISABLE_TELEMETRY=1", "GST_DEBUG_NO_COLOR=1"]);
        assert_eq!(
            names(&[("CACHE_DIRECTORY", "/var/cache/vedette:/var/cache/other")], false),
            [
                "ORT_DISABLE_TELEMETRY=1",
                "GST_DEBUG_NO_COLOR=1",
                "GST_REGISTRY=/var/cache/vedette/gst-registry.bin",
                "ORC_CODE=backup"
            ]
        );
        let set = [("GST_REGISTRY", "/r"), ("CACHE_DIRECTORY", "/c"), ("ORC_CODE", "debug")];
        assert_eq!(names(&set, false), ["ORT_DISABLE_TELEMETRY=1", "GST_DEBUG_NO_COLOR=1"]);
    }

    #[test]
    fn other_threads_are_seen() {
        // The test harness runs this on a thread of its own.
        assert!(matches!(prepare(), Err(ThreadsRunning(n)) if n > 1));
    }

    #[test]
    fn memory_is_kept_private() {
        keep_memory_private();
        // SAFETY: it takes no further argument and answers a number.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 0);
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    }

    #[test]
    fn a_folder_that_is_not_there_does_not_execute() {
        assert!(!file_may_execute(Path::new("/nonexistent")));
        let folder = tempfile::tempdir().unwrap();
        // Either answer may be right here; what is left behind is nothing.
        let _ = file_may_execute(folder.path());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
