//! What this process uses of the machine, from `/proc` (proc(5)). Other operating systems than Linux
//! report none of it.

use std::fs;
use std::time::Duration;

/// The unit of times in `/proc/self/stat`: USER_HZ, which is 100 a second on every machine that
/// this program is built for.
const TICK_MS: u64 = 10;

/// What the process uses. `None` where the operating system does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessUse {
    /// The processor time since the process started, of all threads, in user and kernel mode.
    pub cpu: Option<Duration>,
    /// The memory that the process has in RAM, in bytes.
    pub memory_bytes: Option<u64>,
    /// The number of open file descriptors.
    pub open_files: Option<u64>,
}

impl ProcessUse {
    /// Returns what the process uses now.
    pub fn now() -> Self {
        let read = |file: &str| fs::read_to_string(file).ok();

        Self {
            cpu: read("/proc/self/stat").as_deref().and_then(cpu),
            memory_bytes: read("/proc/self/status").as_deref().and_then(memory_bytes),
            open_files: open_files(),
        }
    }
}

/// Reads the processor time from the text of `/proc/self/stat`.
fn cpu(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses. It may have spaces, and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;

    // Fields 14 and 15; the first one after the name is field 3.
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, kernel) = (ticks()?, ticks()?);

    let ticks = user.checked_add(kernel)?;
    Some(Duration::from_millis(ticks.checked_mul(TICK_MS)?))
}

/// Reads the resident memory from the text of `/proc/self/status`.
fn memory_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;

    kib.checked_mul(1024)
}

/// Counts the open files, without the directory that is open while they are counted.
fn open_files() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();

    u64::try_from(entries).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_time_is_that_of_user_and_kernel() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1000 1 2 3";

        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("42 (a) S 1"), None);
    }

    #[test]
    fn the_memory_is_what_is_in_ram() {
        let status = "VmPeak:\t  9000 kB\nVmRSS:\t    2048 kB\nThreads:\t9\n";

        assert_eq!(memory_bytes(status), Some(2 << 20));
        assert_eq!(memory_bytes("Threads:\t9\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_what_this_process_uses() {
        let used = ProcessUse::now();

        assert!(used.cpu.is_some());
        assert!(used.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(used.open_files.is_some_and(|files| files >= 3));
    }
}
