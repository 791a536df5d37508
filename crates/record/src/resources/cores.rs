//! The busy share of each core of the machine.

use procfs::{CpuTime, FromBufReadSI, KernelStats};

use super::file::{OpenFileLimit, ProcFile};

/// Minimum number of clock ticks (usually 10 ms each) from which a share is computed. With fewer, the
/// rounding error would dominate.
const MIN_TICKS: u64 = 2;

/// Reads the shares from /proc/stat.
#[derive(Debug)]
pub struct Cores {
    file: ProcFile,
    /// Busy ticks and all ticks of each core when its share was last computed.
    before: Vec<(u64, u64)>,
    busy: Vec<f32>,
}

impl Cores {
    /// Reads the counters for the first time. The first shares begin here.
    pub fn new(limit: &OpenFileLimit) -> Self {
        let file = ProcFile::new("/proc/stat".to_owned(), limit);
        let mut cores = Self { file, before: Vec::new(), busy: Vec::new() };
        cores.busy(&mut Vec::new());
        cores
    }

    /// Returns the busy share of each core that is online, 0 to 1, since the last call. If fewer
    /// than [`MIN_TICKS`] have passed, returns the previous share. Empty if /proc/stat cannot be read.
    pub fn busy(&mut self, buffer: &mut Vec<u8>) -> Vec<f32> {
        let stats =
            self.file.read(buffer).ok().and_then(|text| {
                KernelStats::from_buf_read(text, procfs::current_system_info()).ok()
            });
        let Some(stats) = stats else { return Vec::new() };
        let now: Vec<_> = stats.cpu_time.iter().map(ticks).collect();
        if now.len() != self.before.len() {
            // This is the first call, or a core has gone on- or offline.
            self.busy = vec![0.0; now.len()];
            self.before = now;
        } else {
            self.update(&now);
        }
        self.busy.clone()
    }

    fn update(&mut self, now: &[(u64, u64)]) {
        for ((before, now), share) in self.before.iter_mut().zip(now).zip(&mut self.busy) {
            let all = now.1.saturating_sub(before.1);
            if all >= MIN_TICKS {
                let busy = now.0.saturating_sub(before.0);
                *share = (busy as f32 / all as f32).min(1.0);
                *before = *now;
            }
        }
    }
}

/// Returns busy ticks and all ticks. Guest time is part of user time; stolen time is not busy.
fn ticks(time: &CpuTime) -> (u64, u64) {
    let busy =
        time.user + time.nice + time.system + time.irq.unwrap_or(0) + time.softirq.unwrap_or(0);
    (busy, busy + time.idle + time.iowait.unwrap_or(0) + time.steal.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(before: Vec<(u64, u64)>) -> Cores {
        let busy = vec![0.5; before.len()];
        Cores { file: ProcFile::new(String::new(), &OpenFileLimit::new()), before, busy }
    }

    #[test]
    fn a_share_is_busy_ticks_over_all_ticks_since_the_last_call() {
        let mut cores = cores(vec![(100, 200), (100, 200), (100, 200), (100, 200)]);
        cores.update(&[(104, 205), (100, 205), (101, 201), (110, 205)]);
        // The third core has too few ticks; the fourth has more busy ticks than ticks.
        assert_eq!(cores.busy, [0.8, 0.0, 0.5, 1.0]);
        cores.update(&[(104, 210), (105, 210), (102, 204), (110, 210)]);
        assert_eq!(cores.busy, [0.0, 1.0, 0.5, 0.0]);
    }
}
