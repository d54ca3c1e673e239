//! Keeps known, harmless lines that a library writes to stderr by itself out of the terminal and the journal.
//!
//! Owns: the detour of file descriptor 2 and its way back. Does not know: whose lines they are.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

/// Runs `work` while stderr goes to a file in memory, then writes to the real one each line for which `is_noise` is
/// false, and those of other threads with them, in their order. Where there is no detour to be had (no stderr, no
/// memory file) `work` simply runs. What a crash inside `work` would have said is lost: use it round one call.
pub(crate) fn without_lines<T>(is_noise: impl Fn(&str) -> bool, work: impl FnOnce() -> T) -> T {
    let Ok(detour) = Detour::take() else { return work() };
    let result = work();
    let said = detour.end();
    let kept: String = said.split_inclusive('\n').filter(|line| !is_noise(line)).collect();
    // Where stderr is gone nobody listens.
    let _ = std::io::stderr().write_all(kept.as_bytes());
    result
}

/// Stderr turned away; turned back when dropped, also by a panic of what runs meanwhile.
struct Detour {
    real: OwnedFd,
    memory: File,
}

impl Detour {
    fn take() -> rustix::io::Result<Self> {
        let real = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
        let memory = rustix::fs::memfd_create("stderr", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::stdio::dup2_stderr(&memory)?;
        Ok(Self { real, memory: File::from(memory) })
    }

    /// Turns stderr back and returns what was written.
    fn end(mut self) -> String {
        self.turn_back();
        let mut said = Vec::new();
        // The offset is shared with whoever wrote.
        if self.memory.rewind().and_then(|()| self.memory.read_to_end(&mut said)).is_err() {
            log::debug!("what the library wrote to stderr cannot be read back");
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    fn turn_back(&self) {
        if let Err(error) = rustix::stdio::dup2_stderr(&self.real) {
            log::error!("stderr is lost: {error}");
        }
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.turn_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Stderr belongs to the process, so this test runs once more as a child of itself.
    #[test]
    fn only_noise_is_kept_back() {
        const CHILD: &str = "VEDETTE_TEST_QUIET_CHILD";
        const NAME: &str = "quiet::tests::only_noise_is_kept_back";
        if std::env::var_os(CHILD).is_some() {
            let answer = without_lines(
                |line| line.starts_with("noise"),
                || {
                    // Past std's capture of tests, as a C library writes.
                    let write = |text: &[u8]| rustix::io::write(rustix::stdio::stderr(), text).unwrap();
                    write(b"noise 1\nreal 1\n");
                    write(b"noise 2\nreal 2")
                },
            );
            assert_eq!(answer, 14);
            let _ = rustix::io::write(rustix::stdio::stderr(), b"\nnoise after\n");
            return;
        }
        let this = std::env::current_exe().unwrap();
        let child = Command::new(this)
            .args([NAME, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        assert!(child.status.success(), "{said}");
        assert!(said.contains("real 1\nreal 2\nnoise after\n"), "{said}");
        assert!(!said.contains("noise 1") && !said.contains("noise 2"), "{said}");
    }
}
