//! The process images that the library told of, and when each ends.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{reason, state};

use super::memory::Memory;

/// How often it is looked whether processes live, ns.
const LOOK_NS: u64 = 50_000_000;

/// A process image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    pub place: u32,
    /// As the process itself sees it.
    pub pid: u32,
    /// Which process namespace that number is of; 0: not known.
    pub namespace: u64,
    /// When it was first told of, ns.
    pub time_ns: u64,
    /// See [`state`].
    pub state: u32,
    /// See [`reason`].
    pub reason: u32,
    /// `PY_VERSION_HEX`, or 0.
    pub python: u32,
    has_ended: bool,
    /// Whether it was seen to exit.
    exits: bool,
}

/// What the libraries within the target had touched of memory of their own at a time, in all images that lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnMemory {
    pub time_ns: u64,
    pub bytes: u64,
}

/// Smaller changes of that are not noted, bytes.
const NOTABLE_OWN: u64 = 1 << 20;

/// All of them, in the order of their places.
#[derive(Debug)]
pub struct Images {
    known: Vec<Image>,
    /// Place of the next image.
    next: u32,
    /// Places that processes had begun to fill in, but not done so.
    unfinished: Vec<u32>,
    looked_ns: u64,
    own: Vec<OwnMemory>,
    /// The process namespace that /proc shows.
    namespace: u64,
}

impl Default for Images {
    fn default() -> Self {
        let namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |file| file.ino());
        Self {
            known: Vec::new(),
            next: 0,
            unfinished: Vec::new(),
            looked_ns: 0,
            own: Vec::new(),
            namespace,
        }
    }
}

impl Images {
    /// Looks for new images, and now and then for the ends of old ones: their places, each with a time that is not before the image's
    /// last event. `now_ns` reads the clock.
    pub fn look(&mut self, memory: &Memory, now_ns: impl Fn() -> u64) -> Vec<(u64, u32)> {
        let mut ends = self.find_new(memory);
        let begin_ns = now_ns();
        if begin_ns.saturating_sub(self.looked_ns) >= LOOK_NS {
            self.looked_ns = begin_ns;
            // Before the ends, which are found later than they came.
            self.note_own(memory, begin_ns);
            for image in self.known.iter_mut().filter(|image| !image.has_ended) {
                image.has_ended = image.is_over(memory, self.namespace);
                if image.has_ended {
                    // Only now: until it was found dead it may have run.
                    ends.push((now_ns(), image.place));
                }
            }
        }
        ends
    }

    fn note_own(&mut self, memory: &Memory, time_ns: u64) {
        let live = self.known.iter().filter(|image| !image.has_ended);
        let processes = live.filter_map(|image| memory.process(image.place));
        let bytes = processes.map(|process| process.own_bytes.load(Ordering::Relaxed));
        let bytes = bytes.fold(0, u64::saturating_add);
        let last = self.own.last().map_or(0, |own| own.bytes);
        if bytes.abs_diff(last) >= NOTABLE_OWN {
            self.own.push(OwnMemory { time_ns, bytes });
        }
    }

    /// What the libraries had touched of memory of their own, in order of time.
    pub fn take_own(&mut self) -> Vec<OwnMemory> {
        std::mem::take(&mut self.own)
    }

    /// All images as they are at the end, and how many never said what they are.
    pub fn finish(mut self, memory: &Memory) -> (Vec<Image>, u64) {
        self.find_new(memory);
        self.known.sort_by_key(|image| image.place);
        for image in &mut self.known {
            if let Some(process) = memory.process(image.place) {
                image.state = process.state.load(Ordering::Acquire);
                image.reason = process.reason.load(Ordering::Relaxed);
                image.python = process.python.load(Ordering::Relaxed);
            }
        }
        (self.known, self.unfinished.len() as u64)
    }

    /// An image that takes the place of another in the same process ends that.
    fn find_new(&mut self, memory: &Memory) -> Vec<(u64, u32)> {
        let mut ends = Vec::new();
        for place in self.begun(memory) {
            // Who was killed here holds up no others.
            let Some(image) = image(memory, place) else {
                self.unfinished.push(place);
                continue;
            };
            for old in &mut self.known {
                let is_same = (old.pid, old.namespace) == (image.pid, image.namespace);
                if is_same && !old.has_ended {
                    old.has_ended = true;
                    ends.push((image.time_ns, old.place));
                }
            }
            self.known.push(image);
        }
        ends
    }

    /// Places that were taken, of images that are not known yet.
    fn begun(&mut self, memory: &Memory) -> Vec<u32> {
        let is_taken = |place: u32| {
            let process = memory.process(place);
            process.is_some_and(|process| process.state.load(Ordering::Acquire) != state::FREE)
        };
        let mut places = std::mem::take(&mut self.unfinished);
        while is_taken(self.next) {
            places.push(self.next);
            self.next += 1;
        }
        places
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
        namespace: process.namespace.load(Ordering::Relaxed),
        has_ended: false,
        exits: false,
    })
}

impl Image {
    /// Whether it has ended, where /proc shows this namespace.
    fn is_over(&mut self, memory: &Memory, namespace: u64) -> bool {
        if self.is_elsewhere(namespace) {
            // The number means another process here. What exits may still free what it has, but for shorter than from one look to
            // the next; what is killed, or executes another program, is not seen to end.
            let process = memory.process(self.place);
            let exits = process.is_some_and(|p| p.state.load(Ordering::Acquire) == state::EXITS);
            return std::mem::replace(&mut self.exits, exits) && exits;
        }
        // Where /proc hides other users' processes, they are still known by their numbers.
        is_over(std::fs::read(format!("/proc/{}/stat", self.pid))) && !is_hidden(self.pid)
    }

    fn is_elsewhere(&self, namespace: u64) -> bool {
        self.namespace != namespace && self.namespace != 0 && namespace != 0
    }
}

/// Whether there is another user's process of this number.
fn is_hidden(pid: u32) -> bool {
    let Ok(pid @ 1..) = i32::try_from(pid) else { return false };
    // SAFETY: no signal is sent.
    let failed = unsafe { libc::kill(pid, 0) } != 0;
    failed && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Whether no thread of a process lives, by its `stat` in /proc. What cannot be read for another reason than that it is gone may live.
fn is_over(stat: io::Result<Vec<u8>>) -> bool {
    let stat = match stat {
        Ok(stat) => stat,
        Err(error) => return matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
    };
    // The name before the last parenthesis may hold any bytes.
    let Some(end) = stat.iter().rposition(|&byte| byte == b')') else { return false };
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut fields = rest.split_whitespace();
    let first_is_over = fields.next().is_some_and(|state| matches!(state, "Z" | "X"));
    // Its first thread may have ended before the others.
    let threads = fields.nth(16).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    first_is_over && threads <= 1
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
        (state::UNSUPPORTED, reason::LIMITED) => Some(
            "a process may map so little memory that recording would take much of it: its memory is not recorded; raise the limit \
             (`ulimit -v`) by 512 MiB, or lift it",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn tell(memory: &Memory, place: u32, pid: u32, time_ns: u64) {
        tell_in(memory, place, pid, 0, time_ns);
    }

    fn tell_in(memory: &Memory, place: u32, pid: u32, namespace: u64, time_ns: u64) {
        let process = memory.process(place).expect("there");
        process.namespace.store(namespace, Ordering::Relaxed);
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
        let (all, _) = images.finish(&memory);
        assert_eq!(all.iter().map(|image| image.python).collect::<Vec<_>>(), [0, 7, 0]);
    }
    #[test]
    fn a_process_that_is_killed_as_it_begins_holds_up_no_other() {
        let memory = Memory::create(1, 0, false).expect("memory");
        let mut images = Images::default();
        let begin = |place| {
            let process = memory.process(place).expect("there");
            process.state.store(state::TAKEN, Ordering::Release);
        };
        begin(0);
        begin(1);
        tell(&memory, 2, std::process::id(), 5);
        images.look(&memory, || 0);
        assert_eq!(images.known.len(), 1);
        tell(&memory, 1, u32::MAX, 6);
        images.look(&memory, || 0);
        let (all, unknown) = images.finish(&memory);
        let places: Vec<u32> = all.iter().map(|image| image.place).collect();
        assert_eq!((places.as_slice(), unknown), (&[1, 2][..], 1));
    }

    #[test]
    fn what_libraries_take_is_noted_while_their_images_live() {
        let memory = Memory::create(1, 0, false).expect("memory");
        let mut images = Images::default();
        let own = |place: u32, bytes| {
            memory.process(place).expect("there").own_bytes.store(bytes, Ordering::Relaxed);
        };
        tell(&memory, 0, std::process::id(), 1);
        tell(&memory, 1, u32::MAX, 1);
        for (time, first, second) in [(1, 2 << 20, 3 << 20), (2, 4 << 20, 3 << 20), (3, 4 << 20, 0)]
        {
            own(0, first);
            own(1, second);
            images.look(&memory, || time * LOOK_NS);
        }
        let noted: Vec<_> =
            images.take_own().iter().map(|own| (own.time_ns, own.bytes >> 20)).collect();
        assert_eq!(noted, [(LOOK_NS, 5), (2 * LOOK_NS, 4)]);
    }

    #[test]
    fn only_what_is_surely_gone_is_over() {
        let stat = |name: &[u8], state: &str, threads: u32| {
            let rest = format!(") {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 {threads} 0 0\n");
            [b"12 (", name, rest.as_bytes()].concat()
        };
        let table = [
            (Ok(stat(b"a b) Z (", "S", 1)), false),
            // A name is cut after 15 bytes, amid a letter too.
            (Ok(stat(&"ééééééééé".as_bytes()[..15], "R", 1)), false),
            (Ok(stat(b"a", "Z", 1)), true),
            (Ok(stat(b"a", "Z", 3)), false),
            (Ok(stat(b"a", "X", 0)), true),
            (Ok(Vec::new()), false),
            (Err(libc::ENOENT), true),
            (Err(libc::ESRCH), true),
            (Err(libc::EMFILE), false),
            (Err(libc::EACCES), false),
        ];
        for (read, expected) in table {
            let text = format!("{read:?}");
            assert_eq!(is_over(read.map_err(io::Error::from_raw_os_error)), expected, "{text}");
        }
    }

    #[test]
    fn a_number_of_another_namespace_is_not_looked_for_here() {
        let memory = Memory::create(1, 0, false).expect("memory");
        let mut images = Images::default();
        let own = images.namespace;
        assert_ne!(own, 0);
        tell_in(&memory, 0, u32::MAX, own + 1, 5);
        tell_in(&memory, 1, u32::MAX - 1, own, 6);
        // The same number in another namespace is another process.
        tell_in(&memory, 2, u32::MAX, own + 2, 7);
        let places = |ends: Vec<(u64, u32)>| ends.iter().map(|end| end.1).collect::<Vec<_>>();
        assert_eq!(places(images.look(&memory, || LOOK_NS)), [1]);
        assert_eq!(places(images.look(&memory, || 2 * LOOK_NS)), [0_u32; 0]);
        let state = &memory.process(0).expect("there").state;
        state.store(state::EXITS, Ordering::Release);
        assert_eq!(places(images.look(&memory, || 3 * LOOK_NS)), [0_u32; 0], "it may still free");
        assert_eq!(places(images.look(&memory, || 4 * LOOK_NS)), [0]);
        tell_in(&memory, 3, u32::MAX, own + 2, 9);
        assert_eq!(images.look(&memory, || 4 * LOOK_NS), [(9, 2)], "it executed another program");
    }
}
