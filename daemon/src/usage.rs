//! What this process costs: CPU seconds by thread and memory, from /proc. For `demo` and statistics.

use std::collections::BTreeMap;
use std::time::Duration;

/// Kernel ticks a second in /proc; fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time since the process began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// Of the whole process, ended threads included.
    pub total: Duration,
    /// Of living threads, by name.
    pub by_thread: BTreeMap<String, Duration>,
}

/// Reads it; zero where /proc is hidden.
pub fn cpu_time() -> CpuTime {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let total = parse_stat(&read("/proc/self/stat")).map_or(Duration::ZERO, |(_, time)| time);
    let mut by_thread = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        if let Some((name, time)) = parse_stat(&stat) {
            *by_thread.entry(name).or_default() += time;
        }
    }
    CpuTime { total, by_thread }
}

/// Resident memory in bytes; zero where /proc is hidden.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
    kib * 1024
}

/// Name and CPU time of a `stat` line: `pid (name) state ppid …`, utime and stime are fields 14 and 15. The name may
/// hold blanks and parentheses, so the last `)` ends it.
fn parse_stat(line: &str) -> Option<(String, Duration)> {
    let (head, tail) = line.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_ascii_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some((name.to_owned(), Duration::from_secs_f64(ticks / TICKS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let line = "12 (a) (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 5";
        assert_eq!(parse_stat(line), Some(("a) (b) c".to_owned(), Duration::from_secs(2))));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_bytes() > 1 << 20);
        assert!(!cpu_time().by_thread.is_empty());
    }
}
