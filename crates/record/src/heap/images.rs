//! The process images that the library runs in, and when each one ends.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{reason, state};

use super::heap_memory::HeapMemory;

/// How often to check whether processes live, ns.
const CHECK_INTERVAL_NS: u64 = 50_000_000;

/// A process image: what a process runs between two calls of exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Slot of the process in the shared memory.
    pub slot: u32,
    /// Process id, as the process itself sees it.
    pub pid: u32,
    /// Process namespace of that id; 0 if unknown.
    pub namespace: u64,
    /// When the library started in it, CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// See [`state`].
    pub state: u32,
    /// See [`reason`].
    pub reason: u32,
    /// `PY_VERSION_HEX`, or 0.
    pub python: u32,
    has_ended: bool,
    /// Whether it was exiting at the last check.
    is_exiting: bool,
}

/// Sum of the private memory that the libraries had touched in all live images, at one point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibraryMemory {
    pub time_ns: u64,
    pub bytes: u64,
}

/// Smaller changes of [`LibraryMemory`] are not recorded, bytes.
const MIN_CHANGE_BYTES: u64 = 1 << 20;

/// All process images, in the order of their slots.
#[derive(Debug)]
pub struct Images {
    known: Vec<Image>,
    /// Slot of the next image.
    next: u32,
    /// Slots that a process has taken but not yet filled in.
    unfinished: Vec<u32>,
    checked_ns: u64,
    library_memory: Vec<LibraryMemory>,
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
            checked_ns: 0,
            library_memory: Vec::new(),
            namespace,
        }
    }
}

impl Images {
    /// Finds new images and, at intervals, images that have ended. Returns the slot of each ended image with a time that is not
    /// before the image's last event. `now_ns` reads the clock.
    pub fn update(&mut self, memory: &HeapMemory, now_ns: impl Fn() -> u64) -> Vec<(u64, u32)> {
        let mut ends = self.find_new(memory);
        let begin_ns = now_ns();
        if begin_ns.saturating_sub(self.checked_ns) >= CHECK_INTERVAL_NS {
            self.checked_ns = begin_ns;
            // Count all images that were live at `begin_ns`. Some may have ended since.
            self.record_library_memory(memory, begin_ns);
            for image in self.known.iter_mut().filter(|image| !image.has_ended) {
                image.has_ended = image.is_over(memory, self.namespace);
                if image.has_ended {
                    // Read the clock after the check: the image may have run until then.
                    ends.push((now_ns(), image.slot));
                }
            }
        }
        ends
    }

    fn record_library_memory(&mut self, memory: &HeapMemory, time_ns: u64) {
        let live = self.known.iter().filter(|image| !image.has_ended);
        let processes = live.filter_map(|image| memory.process(image.slot));
        let bytes = processes.map(|process| process.own_bytes.load(Ordering::Relaxed));
        let bytes = bytes.fold(0, u64::saturating_add);
        let last = self.library_memory.last().map_or(0, |last| last.bytes);
        if bytes.abs_diff(last) >= MIN_CHANGE_BYTES {
            self.library_memory.push(LibraryMemory { time_ns, bytes });
        }
    }

    /// Takes the record of the libraries' private memory, in order of time.
    pub fn take_library_memory(&mut self) -> Vec<LibraryMemory> {
        std::mem::take(&mut self.library_memory)
    }

    /// Returns all images in their final state, and the number of images that never filled in their slots.
    pub fn finish(mut self, memory: &HeapMemory) -> (Vec<Image>, u64) {
        self.find_new(memory);
        self.known.sort_by_key(|image| image.slot);
        for image in &mut self.known {
            if let Some(process) = memory.process(image.slot) {
                image.state = process.state.load(Ordering::Acquire);
                image.reason = process.reason.load(Ordering::Relaxed);
                image.python = process.python.load(Ordering::Relaxed);
            }
        }
        (self.known, self.unfinished.len() as u64)
    }

    /// Adds new images. A new image in the same process ends the previous one: returns those ends.
    fn find_new(&mut self, memory: &HeapMemory) -> Vec<(u64, u32)> {
        let mut ends = Vec::new();
        for slot in self.taken_slots(memory) {
            // A process that was killed before it filled in its slot must not delay the others.
            let Some(image) = image(memory, slot) else {
                self.unfinished.push(slot);
                continue;
            };
            for old in &mut self.known {
                let is_same = (old.pid, old.namespace) == (image.pid, image.namespace);
                if is_same && !old.has_ended {
                    old.has_ended = true;
                    ends.push((image.time_ns, old.slot));
                }
            }
            self.known.push(image);
        }
        ends
    }

    /// Returns the taken slots whose images are not known yet.
    fn taken_slots(&mut self, memory: &HeapMemory) -> Vec<u32> {
        let is_taken = |slot: u32| {
            let process = memory.process(slot);
            process.is_some_and(|process| process.state.load(Ordering::Acquire) != state::FREE)
        };
        let mut slots = std::mem::take(&mut self.unfinished);
        while is_taken(self.next) {
            slots.push(self.next);
            self.next += 1;
        }
        slots
    }
}

/// Reads the image in a slot; `None` if the slot is not filled in.
fn image(memory: &HeapMemory, slot: u32) -> Option<Image> {
    let process = memory.process(slot)?;
    let state = process.state.load(Ordering::Acquire);
    (state != state::FREE && state != state::TAKEN).then(|| Image {
        slot,
        pid: process.pid.load(Ordering::Relaxed),
        time_ns: process.time_ns.load(Ordering::Relaxed),
        state,
        reason: process.reason.load(Ordering::Relaxed),
        python: process.python.load(Ordering::Relaxed),
        namespace: process.namespace.load(Ordering::Relaxed),
        has_ended: false,
        is_exiting: false,
    })
}

impl Image {
    /// Returns whether the image has ended. `namespace` is the process namespace that /proc shows.
    fn is_over(&mut self, memory: &HeapMemory, namespace: u64) -> bool {
        if self.is_in_other_namespace(namespace) {
            // In this namespace the id belongs to another process, so /proc cannot be used. A process in the state EXITS may
            // still free memory; it counts as ended at the next check. The end of a process that is killed, or that executes
            // another program, is not detected.
            let process = memory.process(self.slot);
            let exits = process.is_some_and(|p| p.state.load(Ordering::Acquire) == state::EXITS);
            return std::mem::replace(&mut self.is_exiting, exits) && exits;
        }
        // /proc may hide processes of other users; kill still finds them.
        is_over(std::fs::read(format!("/proc/{}/stat", self.pid))) && !is_hidden(self.pid)
    }

    fn is_in_other_namespace(&self, namespace: u64) -> bool {
        self.namespace != namespace && self.namespace != 0 && namespace != 0
    }
}

/// Returns whether another user's process has this id.
fn is_hidden(pid: u32) -> bool {
    let Ok(pid @ 1..) = i32::try_from(pid) else { return false };
    // SAFETY: the call takes no pointers, and signal 0 only checks whether the process exists.
    let failed = unsafe { libc::kill(pid, 0) } != 0;
    failed && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Returns whether no thread of a process lives, by its `stat` in /proc. If the file exists but cannot be read, it may live.
fn is_over(stat: io::Result<Vec<u8>>) -> bool {
    let stat = match stat {
        Ok(stat) => stat,
        Err(error) => return matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
    };
    // The name before the last parenthesis may contain any bytes.
    let Some(end) = stat.iter().rposition(|&byte| byte == b')') else { return false };
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut fields = rest.split_whitespace();
    let first_is_over = fields.next().is_some_and(|state| matches!(state, "Z" | "X"));
    // The first thread may have ended before the others.
    let threads = fields.nth(16).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    first_is_over && threads <= 1
}

/// Returns why an image is not recorded, with the consequence and the fix; `None` if it is recorded.
pub fn refusal(image: &Image) -> Option<&'static str> {
    match (image.state, image.reason) {
        (state::UNSUPPORTED, reason::SANITIZER) => Some(
            "a process is built with a sanitizer, which replaces the allocator, so its memory is not recorded: build it without \
             `-fsanitize`",
        ),
        (state::UNSUPPORTED, reason::OWN_MALLOC) => Some(
            "a process has its own allocator, linked into its program, so only allocations that it reports through \
             simprof-probe (feature `heap`) are recorded: link it to the system's allocator, or use simprof-probe",
        ),
        (state::UNSUPPORTED, reason::FILTER) => Some(
            "a process runs under a seccomp filter that may forbid system calls of simprof's library, so its memory is not \
             recorded from then on: record it without the filter",
        ),
        (state::UNSUPPORTED, reason::LIMITED) => Some(
            "a process has a low limit of address space, and recording would use much of it, so its memory is not recorded: raise \
             the limit (`ulimit -v`) by 256 MiB, or remove it",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Fills in a slot, as the library does.
    fn fill(memory: &HeapMemory, slot: u32, pid: u32, time_ns: u64) {
        fill_in_namespace(memory, slot, pid, 0, time_ns);
    }

    fn fill_in_namespace(memory: &HeapMemory, slot: u32, pid: u32, namespace: u64, time_ns: u64) {
        let process = memory.process(slot).expect("the slot exists");
        process.namespace.store(namespace, Ordering::Relaxed);
        process.pid.store(pid, Ordering::Relaxed);
        process.time_ns.store(time_ns, Ordering::Relaxed);
        process.state.store(state::RECORDS, Ordering::Release);
    }

    #[test]
    fn an_image_ends_with_its_process_or_with_the_next_image() {
        let memory = HeapMemory::create(1, 0, false).expect("memory");
        let own = std::process::id();
        let mut images = Images::default();
        fill(&memory, 0, own, 5);
        assert!(images.update(&memory, || CHECK_INTERVAL_NS).is_empty());
        fill(&memory, 1, own, 9);
        assert_eq!(images.update(&memory, || CHECK_INTERVAL_NS + 1), [(9, 0)]);
        fill(&memory, 2, u32::MAX, 11);
        let clock = Cell::new(2 * CHECK_INTERVAL_NS);
        let ends = images.update(&memory, || clock.replace(clock.get() + 1));
        assert_eq!(
            ends,
            [(2 * CHECK_INTERVAL_NS + 1, 2)],
            "the time of the end is read after the check"
        );
        assert!(
            images.update(&memory, || 3 * CHECK_INTERVAL_NS).is_empty(),
            "each image ends once"
        );
        memory.process(1).expect("the slot exists").python.store(7, Ordering::Relaxed);
        let (all, _) = images.finish(&memory);
        assert_eq!(all.iter().map(|image| image.python).collect::<Vec<_>>(), [0, 7, 0]);
    }

    #[test]
    fn an_unfinished_slot_does_not_delay_others() {
        let memory = HeapMemory::create(1, 0, false).expect("memory");
        let mut images = Images::default();
        let take = |slot| {
            let process = memory.process(slot).expect("the slot exists");
            process.state.store(state::TAKEN, Ordering::Release);
        };
        take(0);
        take(1);
        fill(&memory, 2, std::process::id(), 5);
        images.update(&memory, || 0);
        assert_eq!(images.known.len(), 1);
        fill(&memory, 1, u32::MAX, 6);
        images.update(&memory, || 0);
        let (all, unknown) = images.finish(&memory);
        let slots: Vec<u32> = all.iter().map(|image| image.slot).collect();
        assert_eq!((slots.as_slice(), unknown), (&[1, 2][..], 1));
    }

    #[test]
    fn library_memory_is_summed_over_live_images() {
        let memory = HeapMemory::create(1, 0, false).expect("memory");
        let mut images = Images::default();
        let set_bytes = |slot: u32, bytes| {
            let process = memory.process(slot).expect("the slot exists");
            process.own_bytes.store(bytes, Ordering::Relaxed);
        };
        fill(&memory, 0, std::process::id(), 1);
        fill(&memory, 1, u32::MAX, 1);
        for (time, first, second) in [(1, 2 << 20, 3 << 20), (2, 4 << 20, 3 << 20), (3, 4 << 20, 0)]
        {
            set_bytes(0, first);
            set_bytes(1, second);
            images.update(&memory, || time * CHECK_INTERVAL_NS);
        }
        let recorded = images.take_library_memory();
        let recorded: Vec<_> = recorded.iter().map(|at| (at.time_ns, at.bytes >> 20)).collect();
        assert_eq!(recorded, [(CHECK_INTERVAL_NS, 5), (2 * CHECK_INTERVAL_NS, 4)]);
    }

    #[test]
    fn only_a_process_that_certainly_ended_is_over() {
        let stat = |name: &[u8], state: &str, threads: u32| {
            let rest = format!(") {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 {threads} 0 0\n");
            [b"12 (", name, rest.as_bytes()].concat()
        };
        let table = [
            (Ok(stat(b"a b) Z (", "S", 1)), false),
            // The kernel cuts names after 15 bytes, even within a character.
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
    fn ids_of_other_namespaces_are_not_looked_up() {
        let memory = HeapMemory::create(1, 0, false).expect("memory");
        let mut images = Images::default();
        let own = images.namespace;
        assert_ne!(own, 0);
        fill_in_namespace(&memory, 0, u32::MAX, own + 1, 5);
        fill_in_namespace(&memory, 1, u32::MAX - 1, own, 6);
        // The same id in another namespace is another process.
        fill_in_namespace(&memory, 2, u32::MAX, own + 2, 7);
        let slots = |ends: Vec<(u64, u32)>| ends.iter().map(|end| end.1).collect::<Vec<_>>();
        assert_eq!(slots(images.update(&memory, || CHECK_INTERVAL_NS)), [1]);
        assert_eq!(slots(images.update(&memory, || 2 * CHECK_INTERVAL_NS)), [0_u32; 0]);
        let state = &memory.process(0).expect("the slot exists").state;
        state.store(state::EXITS, Ordering::Release);
        assert_eq!(
            slots(images.update(&memory, || 3 * CHECK_INTERVAL_NS)),
            [0_u32; 0],
            "it may still free memory"
        );
        assert_eq!(slots(images.update(&memory, || 4 * CHECK_INTERVAL_NS)), [0]);
        fill_in_namespace(&memory, 3, u32::MAX, own + 2, 9);
        assert_eq!(
            images.update(&memory, || 4 * CHECK_INTERVAL_NS),
            [(9, 2)],
            "it executed another program"
        );
    }
}
