//! The process images of a recording: which of them loaded the preload library.

use std::collections::{BTreeSet, HashMap};

use super::PythonProcess;

/// Process images: what a process runs between two executions of programs.
pub struct Images<'a> {
    /// Times at which processes executed a program, by process id, in order.
    execs: &'a HashMap<u32, Vec<u64>>,
    /// Images that loaded the library, by process id and start.
    loaded: BTreeSet<(u32, u64)>,
    /// Images that run Python without it.
    unloaded: BTreeSet<(u32, u64)>,
}

impl<'a> Images<'a> {
    /// Collects the images. `processes` are those that loaded the library.
    pub fn new(execs: &'a HashMap<u32, Vec<u64>>, processes: &[PythonProcess]) -> Self {
        let mut images = Self { execs, loaded: BTreeSet::new(), unloaded: BTreeSet::new() };
        images.loaded =
            processes.iter().map(|process| images.at(process.pid, process.time_ns)).collect();
        images
    }

    /// Registers that a process runs Python at this time.
    pub fn add_python(&mut self, pid: u32, time_ns: u64) {
        let image = self.at(pid, time_ns);
        if !self.loaded.contains(&image) {
            self.unloaded.insert(image);
        }
    }

    /// Returns the number of images that run Python without the library.
    pub fn unloaded(&self) -> usize {
        self.unloaded.len()
    }

    /// Returns the process id and the start of the image that a process runs at this time.
    fn at(&self, pid: u32, time_ns: u64) -> (u32, u64) {
        let execs = self.execs.get(&pid).map_or(&[][..], Vec::as_slice);
        let before = execs.partition_point(|&exec| exec <= time_ns);
        (pid, before.checked_sub(1).map_or(0, |last| execs[last]))
    }
}

#[cfg(test)]
mod tests {
    use simprof_preload::format::state;

    use super::*;

    #[test]
    fn each_image_of_a_process_is_judged_by_itself() {
        let execs = HashMap::from([(7, vec![10, 100, 200])]);
        let process = |pid, time_ns| PythonProcess {
            state: state::SAMPLED,
            pid,
            time_ns,
            version: 0x030b_07f0,
            reason: 0,
            free_threaded: false,
        };
        let mut images = Images::new(&execs, &[process(7, 11), process(7, 205), process(8, 50)]);
        for (pid, time_ns, expected) in
            [(7, 50, 0), (7, 99, 0), (7, 150, 1), (7, 199, 1), (7, 300, 1), (8, 500, 1), (9, 1, 2)]
        {
            images.add_python(pid, time_ns);
            assert_eq!(images.unloaded(), expected, "{pid} at {time_ns}");
        }
    }
}
