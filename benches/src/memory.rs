//! The memory of this process, as Linux accounts for it.

/// Watches for the peak from a moment on.
#[derive(Debug)]
pub struct Memory {
    before: f64,
}

impl Memory {
    /// Forgets the last peak; none where that cannot be done.
    pub fn watch() -> Option<Self> {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Self {
            before: status("VmRSS:")?,
        })
    }

    /// MiB at the peak since, beyond what was in use then.
    pub fn peak(self) -> Option<f64> {
        Some(peak()? - self.before)
    }
}

/// MiB at the peak since the process began, or since [`Memory::watch`]; none where the system does not tell.
pub fn peak() -> Option<f64> {
    status("VmHWM:")
}

/// MiB under `key` of the process's status.
fn status(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}
