//! Follows the target's processes through its records, and turns samples into interned stacks.

use std::collections::HashMap;
use std::sync::Arc;

use linux_perf_event_reader::constants::PERF_RECORD_LOST_SAMPLES;
use linux_perf_event_reader::{
    CommOrExecRecord, CpuMode, EventRecord, ForkOrExitRecord, Mmap2FileId, Mmap2Record, RawData,
    RawEventRecord, RecordType, SampleRecord,
};

use super::address_space::AddressSpace;
use super::merge::TimedRecord;
use super::module::{FileIdentity, FileMapping, ModuleIndex, ModuleTable};
use super::raw_stacks::{RawFrame, RawFrameId, RawStackId, RawStacks};
use super::unwind::{Registers, WalkEnd, Walker};

/// Executable, in a mapping's protection.
const PROT_EXEC: u32 = libc::PROT_EXEC as u32;
/// Addresses from here on are marks between the parts of a call chain (PERF_CONTEXT_MAX).
const CONTEXT_MARKS: u64 = -4095_i64 as u64;

/// A sample, its stack interned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawSample {
    pub time_ns: u64,
    pub period: u64,
    /// Position in [`Trace::threads`].
    pub thread: u32,
    pub stack: Option<RawStackId>,
    pub end: WalkEnd,
}

/// A thread that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawThread {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
}

/// What the kernel said about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Samples that were dropped for want of room.
    pub lost_samples: u64,
    /// Records about processes that were dropped for want of room.
    pub lost_lifecycle: u64,
    /// How often the kernel stopped sampling for a moment.
    pub throttled: u64,
    /// Records, or runs of them, that cannot be read.
    pub malformed: u64,
}

/// All that was recorded, before symbols.
#[derive(Debug)]
pub(super) struct Trace {
    pub modules: ModuleTable,
    pub stacks: RawStacks,
    pub samples: Vec<RawSample>,
    pub threads: Vec<RawThread>,
    pub counts: Counts,
}

/// A process that lives.
struct Process {
    /// Shared with the children that it forked, until one of them changes or uses it.
    space: Arc<AddressSpace>,
    threads: u32,
}

impl Process {
    fn new() -> Self {
        Self { space: Arc::new(AddressSpace::new()), threads: 1 }
    }
}

/// The state of the recording.
pub(super) struct Observer {
    trace: Trace,
    processes: HashMap<u32, Process>,
    thread_ids: HashMap<(u32, u32), u32>,
    walker: Walker,
    /// Code addresses of the sample in hand, leaf first.
    addresses: Vec<u64>,
}

impl Observer {
    pub fn new() -> Self {
        Self {
            trace: Trace {
                modules: ModuleTable::new(),
                stacks: RawStacks::default(),
                samples: Vec::new(),
                threads: Vec::new(),
                counts: Counts::default(),
            },
            processes: HashMap::new(),
            thread_ids: HashMap::new(),
            walker: Walker::new(),
            addresses: Vec::new(),
        }
    }

    /// How many samples came so far.
    pub fn samples(&self) -> usize {
        self.trace.samples.len()
    }

    /// Ends the recording; `malformed` is what the reading of the buffers counted.
    pub fn into_trace(mut self, malformed: u64) -> Trace {
        self.trace.counts.malformed += malformed;
        self.trace
    }

    /// Takes in the next record. Records must come in order of time.
    pub fn handle(&mut self, timed: TimedRecord<'_>) {
        let is_sampling = timed.record.parse_info.sample_regs_user != 0;
        if timed.record.record_type.0 == PERF_RECORD_LOST_SAMPLES {
            self.trace.counts.lost_samples += lost_samples(&timed.record).unwrap_or(0);
            return;
        }
        let known = timed.record.record_type != RecordType::SAMPLE || is_sampling;
        match timed.record.parse() {
            Ok(EventRecord::Sample(sample)) if known => self.sample(timed.time_ns, &sample),
            Ok(EventRecord::Mmap2(mapping)) => self.mapping(&mapping),
            Ok(EventRecord::Comm(name)) => self.name(&name),
            Ok(EventRecord::Fork(fork)) => self.fork(&fork),
            Ok(EventRecord::Exit(exit)) => self.exit(&exit),
            Ok(EventRecord::Lost(lost)) if is_sampling => {
                self.trace.counts.lost_samples += lost.count
            }
            Ok(EventRecord::Lost(lost)) => self.trace.counts.lost_lifecycle += lost.count,
            Ok(EventRecord::Throttle(_)) => self.trace.counts.throttled += 1,
            Ok(_) => {}
            Err(_) => self.trace.counts.malformed += 1,
        }
    }

    fn sample(&mut self, time_ns: u64, sample: &SampleRecord<'_>) {
        let (Some(pid), Some(tid)) = (id(sample.pid), id(sample.tid)) else {
            self.trace.counts.malformed += 1;
            return;
        };
        let thread = self.thread(pid, tid);
        let (parent, end) = self.user_stack(pid, sample);
        let stack = self.kernel_stack(parent, sample);
        let period = sample.period.unwrap_or(1);
        self.trace.samples.push(RawSample { time_ns, period, thread, stack, end });
    }

    /// Unwinds the user part of a sample.
    fn user_stack(&mut self, pid: u32, sample: &SampleRecord<'_>) -> (Option<RawStackId>, WalkEnd) {
        let Some(registers) = sample.user_regs.as_ref().and_then(Registers::from_sample) else {
            // A kernel thread, or a process that is ending and has no memory left.
            return (None, WalkEnd::Root);
        };
        let stack = stack_bytes(sample);
        let process = self.processes.entry(pid).or_insert_with(Process::new);
        let space = Arc::make_mut(&mut process.space);
        if sample.cpu_mode == CpuMode::Kernel && !space.contains(registers.ip()) {
            // The process is in the midst of an exec: these registers are of the program that it was.
            return (None, WalkEnd::Root);
        }
        self.addresses.clear();
        let end = self.walker.walk(space.unwinder(), registers, stack, &mut self.addresses);
        let mut node = None;
        for &address in self.addresses.iter().rev() {
            let frame = space.frame_at(address, &mut self.trace.stacks);
            node = Some(self.trace.stacks.child(node, frame));
        }
        (node, end)
    }

    /// Puts the kernel's part of a sample on top of its user part.
    fn kernel_stack(
        &mut self,
        user: Option<RawStackId>,
        sample: &SampleRecord<'_>,
    ) -> Option<RawStackId> {
        let Some(chain) = &sample.callchain else { return user };
        self.addresses.clear();
        let entries = (0..chain.len()).filter_map(|at| chain.get(at));
        self.addresses.extend(entries.filter(|&address| address < CONTEXT_MARKS));
        let mut node = user;
        for at in (0..self.addresses.len()).rev() {
            // All but the first are return addresses.
            let address = self.addresses[at].saturating_sub(u64::from(at != 0));
            let frame = self.kernel_frame(address);
            node = Some(self.trace.stacks.child(node, frame));
        }
        node
    }

    fn kernel_frame(&mut self, address: u64) -> RawFrameId {
        self.trace.stacks.frame(RawFrame { module: ModuleIndex::KERNEL, address })
    }

    fn mapping(&mut self, record: &Mmap2Record<'_>) {
        let Some(pid) = id(Some(record.pid)) else { return };
        if record.protection & PROT_EXEC == 0 {
            return;
        }
        let identity = match &record.file_id {
            Mmap2FileId::InodeAndVersion(file) => FileIdentity {
                device: (file.major, file.minor),
                inode: file.inode,
                generation: file.inode_generation,
            },
            Mmap2FileId::BuildId(_) => FileIdentity::default(),
        };
        let mapping = FileMapping {
            pid,
            range: record.address..record.address.saturating_add(record.length),
            file_offset: record.page_offset,
            path: text(record.path),
            identity,
        };
        let module = self.trace.modules.of_mapping(&mapping);
        let process = self.processes.entry(pid).or_insert_with(Process::new);
        Arc::make_mut(&mut process.space).map(&mapping, module, &self.trace.modules);
    }

    fn name(&mut self, record: &CommOrExecRecord<'_>) {
        let (Some(pid), Some(tid)) = (id(Some(record.pid)), id(Some(record.tid))) else { return };
        if record.is_execve {
            self.processes.insert(pid, Process::new());
        }
        let thread = self.thread(pid, tid);
        self.trace.threads[thread as usize].name = text(record.name);
    }

    fn fork(&mut self, record: &ForkOrExitRecord) {
        let (Some(pid), Some(tid)) = (id(Some(record.pid)), id(Some(record.tid))) else { return };
        let (Some(parent), Some(parent_tid)) = (id(Some(record.ppid)), id(Some(record.ptid)))
        else {
            return;
        };
        if pid == parent {
            self.processes.entry(pid).or_insert_with(Process::new).threads += 1;
        } else {
            let space = self.processes.get(&parent).map(|process| Arc::clone(&process.space));
            let space = space.unwrap_or_else(|| Arc::new(AddressSpace::new()));
            self.processes.insert(pid, Process { space, threads: 1 });
        }
        let inherited = self.thread(parent, parent_tid);
        let name = self.trace.threads[inherited as usize].name.clone();
        let thread = self.thread(pid, tid);
        self.trace.threads[thread as usize].name = name;
    }

    fn exit(&mut self, record: &ForkOrExitRecord) {
        let Some(pid) = id(Some(record.pid)) else { return };
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.threads = process.threads.saturating_sub(1);
        if process.threads == 0 {
            self.processes.remove(&pid);
        }
    }

    /// The position of a thread in the table.
    fn thread(&mut self, pid: u32, tid: u32) -> u32 {
        let threads = &mut self.trace.threads;
        *self.thread_ids.entry((pid, tid)).or_insert_with(|| {
            threads.push(RawThread { pid, tid, name: String::new() });
            u32::try_from(threads.len() - 1).expect("fewer than 2^32 threads")
        })
    }
}

/// The bytes of stack that were really copied.
fn stack_bytes<'a>(sample: &SampleRecord<'a>) -> RawData<'a> {
    let Some((bytes, copied)) = sample.user_stack else { return RawData::empty() };
    let copied = usize::try_from(copied).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(0..copied).unwrap_or(RawData::empty())
}

/// The count in a record of samples that the hardware lost.
fn lost_samples(record: &RawEventRecord<'_>) -> Option<u64> {
    let mut data = record.data;
    let mut word = [0; 8];
    data.read_exact(&mut word).ok()?;
    Some(u64::from_ne_bytes(word))
}

/// A process or thread id; the kernel writes -1 for tasks of other namespaces.
fn id(value: Option<i32>) -> Option<u32> {
    u32::try_from(value?).ok()
}

/// Text of the target: not to be trusted to be UTF-8.
fn text(data: RawData<'_>) -> String {
    let bytes = data.as_slice();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
