//! The process images that the library told of, and when each ends.

use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{PROCESSES, reason, state};

use super::memory::Memory;

/// How often it is looked whether processes live, ns.
const LOOK_NS: u64 = 50_000_000;

/// A process image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    pub place: u32,
    pub pid: u32,
    /// When it was first told of, ns.
    pub time_ns: u64,
    /// See [`state`].
    pub state: u32,
    /// See [`reason`].
    pub reason: u32,
    /// `PY_VERSION_HEX`, or 0.
    pub python: u32,
    has_ended: bool,
}

/// All of them, in the order of their places.
#[derive(Debug, Default)]
pub struct Images {
    known: Vec<Image>,
    looked_ns: u64,
}

impl Images {
    /// Looks for new images, and now and then for the ends of old ones: their places, each with a time that is not before the image's
    /// last event. `now_ns` reads the clock.
    pub fn look(&mut self, memory: &Memory, now_ns: impl Fn() -> u64) -> Vec<(u64, u32)> {
        let mut ends = self.find_new(memory);
        let begin_ns = now_ns();
        if begin_ns.saturating_sub(self.looked_ns) >= LOOK_NS {
            self.looked_ns = begin_ns;
            for image in self.known.iter_mut().filter(|image| !image.has_ended) {
                image.has_ended = !lives(image.pid);
                if image.has_ended {
                    // Only now: until it was found dead it may have run.
                    ends.push((now_ns(), image.place));
                }
            }
        }
        ends
    }

    /// All images as they are at the end.
    pub fn finish(mut self, memory: &Memory) -> Vec<Image> {
        self.find_new(memory);
        for image in &mut self.known {
            if let Some(process) = memory.process(image.place) {
                image.state = process.state.load(Ordering::Acquire);
                image.reason = process.reason.load(Ordering::Relaxed);
                image.python = process.python.load(Ordering::Relaxed);
            }
        }
        self.known
    }

    /// An image that takes the place of another in the same process ends that.
    fn find_new(&mut self, memory: &Memory) -> Vec<(u64, u32)> {
        let mut ends = Vec::new();
        while self.known.len() < PROCESSES {
            let place = u32::try_from(self.known.len()).expect("few places");
            let Some(image) = image(memory, place) else { break };
            for old in &mut self.known {
                if old.pid == image.pid && !old.has_ended {
                    old.has_ended = true;
                    ends.push((image.time_ns, old.place));
                }
            }
            self.known.push(image);
        }
        ends
    }
}

fn image(memory: &Memory, place: u32) -> Option<Image> {
    let process = memory.process(place)?;
    let state = process.state.load(Ordering::Acquire);
    (state != state::FREE && state != state::TAKEN).then(|| Image {
        place,
        pid: process.pid.load(Ordering::Relaxed),
        time_ns: process.time_ns.load(Ordering::Relaxed),
        state,
        reason: process.reason.load(Ordering::Relaxed),
        python: process.python.load(Ordering::Relaxed),
        has_ended: false,
    })
}

/// Whether any thread of a process lives.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut fields = rest.split(' ');
    let is_over = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    // Its first thread may have ended before the others.
    let threads = fields.nth(16).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    !is_over || threads > 1
}

/// Why an image is not recorded, what that means and what would mend it; none where it is.
pub fn refusal(image: &Image) -> Option<&'static str> {
    match (image.state, image.reason) {
        (state::UNSUPPORTED, reason::SANITIZER) => Some(
            "a process is built with a sanitizer that replaces the allocator: its memory is not recorded; build it without `-fsanitize`",
        ),
        (state::UNSUPPORTED, reason::OWN_MALLOC) => Some(
            "a process brings its own allocator, whose calls are bound within its program: only what it tells by the shim of \
             simprof-probe (feature `heap`) is recorded; link it to the system's allocator, or use the shim",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn tell(memory: &Memory, place: u32, pid: u32, time_ns: u64) {
        let process = memory.process(place).expect("there");
        process.pid.store(pid, Ordering::Relaxed);
        process.time_ns.store(time_ns, Ordering::Relaxed);
        process.state.store(state::RECORDS, Ordering::Release);
    }

    #[test]
    fn an_image_ends_by_death_or_by_the_next_one() {
        let memory = Memory::create(1, 0, false).expect("memory");
        let own = std::process::id();
        let mut images = Images::default();
        tell(&memory, 0, own, 5);
        assert!(images.look(&memory, || LOOK_NS).is_empty());
        tell(&memory, 1, own, 9);
        assert_eq!(images.look(&memory, || LOOK_NS + 1), [(9, 0)]);
        tell(&memory, 2, u32::MAX, 11);
        let clock = Cell::new(2 * LOOK_NS);
        let ends = images.look(&memory, || clock.replace(clock.get() + 1));
        assert_eq!(
            ends,
            [(2 * LOOK_NS + 1, 2)],
            "what ran while it was looked for is before its end"
        );
        assert!(images.look(&memory, || 3 * LOOK_NS).is_empty(), "each ends once");
        memory.process(1).expect("there").python.store(7, Ordering::Relaxed);
        let all = images.finish(&memory);
        assert_eq!(all.iter().map(|image| image.python).collect::<Vec<_>>(), [0, 7, 0]);
    }
}
