//! How busy each core of the machine is.

use procfs::{CpuTime, FromBufReadSI, KernelStats};

use super::file::{ProcFile, Room};

/// Ticks (of 10 ms, mostly) that must pass on a core between two figures of it: with fewer a share
/// would be mere rounding.
const TICKS_MIN: u64 = 2;

/// Watches /proc/stat.
#[derive(Debug)]
pub struct Cores {
    file: ProcFile,
    /// Per core, at the last figure: busy ticks and all ticks.
    before: Vec<(u64, u64)>,
    busy: Vec<f32>,
}

impl Cores {
    /// Takes the first look, which later shares start from.
    pub fn new(room: &Room) -> Self {
        let file = ProcFile::new("/proc/stat".to_owned(), room);
        let mut cores = Self { file, before: Vec::new(), busy: Vec::new() };
        cores.busy(&mut Vec::new());
        cores
    }

    /// Busy share of each core that is online, 0 to 1, since the call before (or the one before
    /// that, where hardly any time has passed). Empty where the kernel does not tell.
    pub fn busy(&mut self, buffer: &mut Vec<u8>) -> Vec<f32> {
        let stats =
            self.file.read(buffer).ok().and_then(|text| {
                KernelStats::from_buf_read(text, procfs::current_system_info()).ok()
            });
        let Some(stats) = stats else { return Vec::new() };
        let now: Vec<_> = stats.cpu_time.iter().map(ticks).collect();
        if now.len() != self.before.len() {
            // At the begin, and where a core has gone on- or offline.
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
            if all >= TICKS_MIN {
                let busy = now.0.saturating_sub(before.0);
                *share = (busy as f32 / all as f32).min(1.0);
                *before = *now;
            }
        }
    }
}

/// Busy and all ticks. Guest time is part of user time; stolen time is nobody's here.
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
        Cores { file: ProcFile::new(String::new(), &Room::new()), before, busy }
    }

    #[test]
    fn a_share_is_busy_over_all_since_the_last_look() {
        let mut cores = cores(vec![(100, 200), (100, 200), (100, 200), (100, 200)]);
        cores.update(&[(104, 205), (100, 205), (101, 201), (110, 205)]);
        // The third core has too few ticks yet; the fourth had its clock set forward.
        assert_eq!(cores.busy, [0.8, 0.0, 0.5, 1.0]);
        cores.update(&[(104, 210), (105, 210), (102, 204), (110, 210)]);
        assert_eq!(cores.busy, [0.0, 1.0, 0.5, 0.0]);
    }
}
