//! Handles the records of a target: follows its processes and unwinds its samples into interned stacks.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::mem;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use linux_perf_event_reader::constants::{
    PERF_RECORD_LOST_SAMPLES, PERF_RECORD_MISC_MMAP_BUILD_ID,
};
use linux_perf_event_reader::{
    CommOrExecRecord, ContextSwitchRecord, CpuMode, EventRecord, ForkOrExitRecord, Mmap2FileId,
    Mmap2Record, RawData, RawEventRecord, RecordType, SampleFormat, SampleRecord, TaskWasPreempted,
};

use super::module::{FileIdentity, FileMapping, ModuleIndex};
use super::observed_process::Process;
use super::process_memory::ProcessMemory;
use super::python::{Attached, PythonTrace};
use super::raw_stacks::{RawFrame, RawFrameId, RawStackId};
use super::record_order::TimedRecord;
use super::registers::Registers;
use super::switches::{Departure, Switches};
use super::trace::{Lifetime, RawSample, RawThread, Trace};
use super::unwind::{StackBytes, WalkEnd, Walker};

/// The bit for executable memory in a mapping's protection.
const PROT_EXEC: u32 = libc::PROT_EXEC as u32;
/// Call chain entries from here on are not addresses but separate the parts of the chain (PERF_CONTEXT_MAX).
const CONTEXT_MARKS: u64 = -4095_i64 as u64;

/// Offset of the call chain's length in a sample: after event, address, thread, time, CPU and period.
const CALLCHAIN_OFFSET: usize = 48;

/// The state of the recording.
pub(super) struct Observer {
    trace: Trace,
    processes: HashMap<u32, Process>,
    thread_ids: HashMap<(u32, u32), u32>,
    walker: Walker,
    /// Code addresses of the current sample, leaf first.
    addresses: Vec<u64>,
    /// Ids of the events that sample armed processes, see [`super::python`].
    python_events: HashSet<u64>,
    /// Armed processes, and since when they are armed. Later samples of them by other events are ignored.
    armed: HashMap<u32, u64>,
    /// Armed processes that ended or executed another program, and when.
    ended: Vec<(u32, u64)>,
    switches: Switches,
}

impl Observer {
    pub fn new() -> Self {
        Self {
            trace: Trace::default(),
            processes: HashMap::new(),
            thread_ids: HashMap::new(),
            walker: Walker::new(),
            addresses: Vec::new(),
            python_events: HashSet::new(),
            armed: HashMap::new(),
            ended: Vec::new(),
            switches: Switches::default(),
        }
    }

    /// Registers the events that sample departures.
    pub fn add_departure_events(&mut self, ids: &[u64]) {
        self.switches.events.extend(ids);
    }

    /// Returns the blocked part of the time in which a thread had no CPU within a range, see [`super::scheduling::Scheduling::blocked_part`].
    pub fn blocked_part(&mut self, pid: u32, tid: u32, range: Range<u64>) -> Option<f64> {
        let thread = *self.thread_ids.get(&(pid, tid))?;
        self.switches.scheduling.blocked_part(pid, thread, range)
    }

    /// Registers the id of an event that samples a process that is about to be armed.
    pub fn add_python_event(&mut self, id: u64) {
        self.python_events.insert(id);
    }

    /// Registers that `pid` is armed from this time on.
    pub fn arm(&mut self, pid: u32, since_ns: u64) {
        self.armed.insert(pid, since_ns);
    }

    /// Returns whether `pid` is the only running process.
    pub fn is_alone(&self, pid: u32) -> bool {
        self.processes.keys().all(|&other| other == pid)
    }

    /// Returns the armed processes that ended or executed another program since the last call, with the times.
    pub fn take_ended(&mut self) -> Vec<(u32, u64)> {
        mem::take(&mut self.ended)
    }

    /// Returns the frame of a code address of a process; `None` if no code is mapped there.
    pub fn frame_in(&mut self, pid: u32, address: u64) -> Option<RawFrameId> {
        let process = self.processes.get_mut(&pid)?;
        process.space.contains(address).then(|| process.frame_at(address, &mut self.trace))
    }

    /// Returns the number of samples so far.
    pub fn sample_count(&self) -> usize {
        self.trace.samples.len()
    }

    /// Ends the recording. `malformed` counts the records that could not be read from the buffers.
    pub fn into_trace(mut self, malformed: u64, python: Option<PythonTrace>) -> Trace {
        for (pid, process) in &mut self.processes {
            process.finish_names(*pid, &mut self.trace);
        }
        self.trace.counts.malformed += malformed;
        self.trace.python = python;
        let (scheduling, chains) = self.switches.finish();
        self.trace.scheduled = scheduling.finish();
        self.trace.kernel_chains = chains;
        self.trace
    }

    /// Handles the next record. Records must come in order of time.
    pub fn handle(&mut self, timed: TimedRecord<'_>) {
        let is_sampling = timed.record.parse_info.sample_regs_user != 0;
        if timed.record.record_type.0 == PERF_RECORD_LOST_SAMPLES {
            let lost = word_at(&timed.record, 0).unwrap_or(0);
            if self.is_of_departures(&timed.record) {
                return;
            }
            add(&mut self.trace.counts.lost_samples, lost);
            return;
        }
        if !is_sound(&timed.record) {
            self.trace.counts.malformed += 1;
            return;
        }
        match timed.record.parse() {
            Ok(EventRecord::Sample(sample)) => self.sample(timed.time_ns, &sample),
            Ok(EventRecord::Mmap2(mapping)) => self.mapping(&mapping),
            Ok(EventRecord::Comm(name)) => self.name(timed.time_ns, &name),
            Ok(EventRecord::Fork(fork)) => self.fork(timed.time_ns, &fork),
            Ok(EventRecord::Exit(exit)) => self.exit(timed.time_ns, &exit),
            Ok(EventRecord::ContextSwitch(switch)) => self.switch(&timed, &switch),
            Ok(EventRecord::Lost(_) | EventRecord::Throttle(_))
                if self.is_of_departures(&timed.record) => {}
            Ok(EventRecord::Lost(lost)) if is_sampling => {
                add(&mut self.trace.counts.lost_samples, lost.count);
            }
            Ok(EventRecord::Lost(lost)) => {
                add(&mut self.trace.counts.lost_lifecycle, lost.count);
            }
            Ok(EventRecord::Throttle(_)) => self.trace.counts.throttled += 1,
            Ok(_) => {}
            Err(_) => self.trace.counts.malformed += 1,
        }
    }

    /// Returns whether a record is of the events that sample departures, which may lose some.
    fn is_of_departures(&self, record: &RawEventRecord<'_>) -> bool {
        let id = record.common_data().ok().and_then(|common| common.id);
        id.is_some_and(|id| self.switches.events.contains(&id))
    }

    fn sample(&mut self, time_ns: u64, sample: &SampleRecord<'_>) {
        let (Some(pid), Some(tid)) = (id(sample.pid), id(sample.tid)) else {
            self.trace.counts.malformed += 1;
            return;
        };
        if sample.id.is_some_and(|id| self.switches.events.contains(&id)) {
            return self.departure(pid, tid, time_ns, sample);
        }
        let by_python_event = sample.id.is_some_and(|id| self.python_events.contains(&id));
        if !by_python_event && self.armed.get(&pid).is_some_and(|&since_ns| since_ns <= time_ns) {
            return;
        }
        let thread = self.thread(pid, tid);
        let (parent, end) = self.user_stack(pid, time_ns, sample);
        let stack = self.kernel_stack(parent, sample);
        let period = sample.period.unwrap_or(1);
        let in_kernel = sample.cpu_mode == CpuMode::Kernel;
        let python = if by_python_event { Attached::Lost } else { Attached::None };
        let sample = RawSample { time_ns, period, thread, stack, end, in_kernel, python };
        self.trace.samples.push(sample);
    }

    /// Disarms a process that ended or executed another program.
    fn disarm(&mut self, pid: u32, time_ns: u64) {
        // Lifecycle records are read late: the process may have been armed again since.
        if self.armed.get(&pid).is_some_and(|&since_ns| since_ns <= time_ns) {
            self.armed.remove(&pid);
            self.ended.push((pid, time_ns));
        }
    }

    /// Remembers the stack of a thread that is about to leave its CPU.
    fn departure(&mut self, pid: u32, tid: u32, time_ns: u64, sample: &SampleRecord<'_>) {
        let thread = self.thread(pid, tid);
        self.unwind(pid, time_ns, sample);
        let user = self.addresses.clone();
        self.read_kernel_chain(sample);
        let kernel = self.addresses.clone();
        self.switches.departs(thread, Departure { user, kernel });
    }

    /// Handles that a thread gets or leaves a CPU.
    fn switch(&mut self, timed: &TimedRecord<'_>, switch: &ContextSwitchRecord) {
        let Ok(common) = timed.record.common_data() else { return };
        let (Some(pid), Some(tid)) = (id(common.pid), id(common.tid)) else { return };
        let thread = self.thread(pid, tid);
        let departure = self.switches.take_departure(thread);
        let ContextSwitchRecord::Out { preempted, .. } = switch else {
            return self.switches.scheduling.gets_cpu(pid, thread, timed.time_ns);
        };
        let preempted = *preempted == TaskWasPreempted::Yes;
        let leaving = departure.filter(|_| !preempted).map(|departure| {
            let stack = self.intern(pid, &departure.user);
            self.switches.leaving(stack, departure)
        });
        self.switches.scheduling.leaves_cpu(thread, timed.time_ns, preempted, leaving);
    }

    /// Unwinds the user stack of a sample and interns it.
    fn user_stack(
        &mut self,
        pid: u32,
        time_ns: u64,
        sample: &SampleRecord<'_>,
    ) -> (Option<RawStackId>, WalkEnd) {
        let end = self.unwind(pid, time_ns, sample);
        let addresses = mem::take(&mut self.addresses);
        let stack = self.intern(pid, &addresses);
        self.addresses = addresses;
        (stack, end)
    }

    /// Interns a stack of code addresses of a process, leaf first.
    fn intern(&mut self, pid: u32, addresses: &[u64]) -> Option<RawStackId> {
        let process = self.processes.entry(pid).or_insert_with(Process::new);
        let trace = &mut self.trace;
        addresses.iter().rev().fold(None, |node, &address| {
            let frame = process.frame_at(address, trace);
            Some(trace.stacks.child(node, frame))
        })
    }

    /// Unwinds the user stack of a sample to `addresses`.
    fn unwind(&mut self, pid: u32, time_ns: u64, sample: &SampleRecord<'_>) -> WalkEnd {
        self.addresses.clear();
        let Some(registers) = sample.user_regs.as_ref().and_then(Registers::from_sample) else {
            // A kernel thread, or a process that is exiting and has released its memory.
            return WalkEnd::Root;
        };
        let stack = stack_bytes(sample, registers.sp());
        let process = self.processes.entry(pid).or_insert_with(Process::new);
        let space = Arc::make_mut(&mut process.space);
        if sample.cpu_mode == CpuMode::Kernel && !space.contains(registers.ip()) {
            // The process is within an exec: these registers belong to the program before it.
            return WalkEnd::Root;
        }
        let memory = ProcessMemory { pid };
        let end = self.walker.walk(space, memory, registers, stack, &mut self.addresses);
        if self.addresses.iter().any(|&address| !space.is_file(address)) {
            process.refresh_names(pid, time_ns, &mut self.trace);
        }
        end
    }

    /// Appends the kernel's call chain to the user stack of a sample.
    fn kernel_stack(
        &mut self,
        user: Option<RawStackId>,
        sample: &SampleRecord<'_>,
    ) -> Option<RawStackId> {
        self.read_kernel_chain(sample);
        let mut node = user;
        for index in (0..self.addresses.len()).rev() {
            // All but the first are return addresses.
            let address = self.addresses[index].saturating_sub(u64::from(index != 0));
            let frame = self.kernel_frame(address);
            node = Some(self.trace.stacks.child(node, frame));
        }
        node
    }

    /// Reads the kernel's call chain of a sample to `addresses`, leaf first.
    fn read_kernel_chain(&mut self, sample: &SampleRecord<'_>) {
        self.addresses.clear();
        if let Some(chain) = &sample.callchain {
            let entries = (0..chain.len()).filter_map(|index| chain.get(index));
            self.addresses.extend(entries.filter(|&address| address < CONTEXT_MARKS));
        }
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
            file: PathBuf::from(OsString::from_vec(c_string(record.path))),
            identity,
        };
        let module = self.trace.modules.open(&mapping);
        let process = self.processes.entry(pid).or_insert_with(Process::new);
        Arc::make_mut(&mut process.space).map(&mapping, module, &self.trace.modules);
    }

    /// Handles a new name of a thread. The kernel reports an exec in this way too.
    fn name(&mut self, time_ns: u64, record: &CommOrExecRecord<'_>) {
        let (Some(pid), Some(tid)) = (id(Some(record.pid)), id(Some(record.tid))) else { return };
        if record.is_execve {
            self.disarm(pid, time_ns);
            self.trace.execs.entry(pid).or_default().push(time_ns);
            self.trace.forks.remove(&pid);
            if let Some(mut before) = self.processes.insert(pid, Process::new()) {
                before.finish_names(pid, &mut self.trace);
            }
        }
        let thread = self.thread(pid, tid);
        if record.is_execve {
            self.switches.scheduling.runs(thread, time_ns);
        }
        self.trace.threads[thread as usize].name = text(record.name);
    }

    fn fork(&mut self, time_ns: u64, record: &ForkOrExitRecord) {
        let (Some(pid), Some(tid)) = (id(Some(record.pid)), id(Some(record.tid))) else { return };
        let (Some(parent), Some(parent_tid)) = (id(Some(record.ppid)), id(Some(record.ptid)))
        else {
            return;
        };
        if pid == parent {
            self.processes.entry(pid).or_insert_with(Process::new).threads += 1;
        } else {
            self.trace.forks.remove(&pid);
            if self.armed.get(&parent).is_some_and(|&since_ns| since_ns <= time_ns) {
                let life = Lifetime { from_ns: time_ns, until_ns: None };
                self.trace.forks.insert(pid, life);
            }
            let child = self.processes.get(&parent).map(|parent| {
                Process::forked(Arc::clone(&parent.space), parent.generated.forked())
            });
            self.processes.insert(pid, child.unwrap_or_else(Process::new));
        }
        let inherited = self.thread(parent, parent_tid);
        let name = self.trace.threads[inherited as usize].name.clone();
        let thread = self.thread(pid, tid);
        self.trace.threads[thread as usize].name = name;
        self.switches.scheduling.created(thread, time_ns);
    }

    fn exit(&mut self, time_ns: u64, record: &ForkOrExitRecord) {
        let (Some(pid), Some(tid)) = (id(Some(record.pid)), id(Some(record.tid))) else { return };
        let thread = self.thread(pid, tid);
        self.switches.scheduling.ended(thread, time_ns);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.threads = process.threads.saturating_sub(1);
        if process.threads == 0 {
            if let Some(mut ended) = self.processes.remove(&pid) {
                ended.finish_names(pid, &mut self.trace);
            }
            self.disarm(pid, time_ns);
            if let Some(life) = self.trace.forks.get_mut(&pid) {
                life.until_ns = Some(time_ns);
            }
        }
    }

    /// Returns the position of a thread in [`Trace::threads`], and adds it if it is new.
    fn thread(&mut self, pid: u32, tid: u32) -> u32 {
        let threads = &mut self.trace.threads;
        *self.thread_ids.entry((pid, tid)).or_insert_with(|| {
            threads.push(RawThread { pid, tid, name: String::new() });
            u32::try_from(threads.len() - 1).expect("fewer than 2^32 threads")
        })
    }
}

/// Returns false for records on which the parser would panic: impossible lengths, and formats that were not requested.
fn is_sound(record: &RawEventRecord<'_>) -> bool {
    match record.record_type {
        RecordType::SAMPLE => {
            let format = record.parse_info.sample_format;
            !format.contains(SampleFormat::CALLCHAIN)
                || word_at(record, CALLCHAIN_OFFSET)
                    .is_some_and(|n| n <= record.data.len() as u64 / 8)
        }
        RecordType::MMAP2 => record.misc & PERF_RECORD_MISC_MMAP_BUILD_ID == 0,
        _ => true,
    }
}

/// Returns the stack bytes that were really copied. The kernel stops at the end of the stack's memory.
fn stack_bytes<'a>(sample: &SampleRecord<'a>, start: u64) -> StackBytes<'a> {
    let Some((bytes, copied)) = sample.user_stack else {
        return StackBytes { start, bytes: RawData::empty(), continues: true };
    };
    let copied = usize::try_from(copied).unwrap_or(usize::MAX).min(bytes.len());
    let continues = copied == bytes.len();
    StackBytes { start, bytes: bytes.get(0..copied).unwrap_or(RawData::empty()), continues }
}

/// Adds a number from a record to a count. A malformed record must not make it overflow.
fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

/// Returns the word of a record at an offset in bytes.
fn word_at(record: &RawEventRecord<'_>, offset: usize) -> Option<u64> {
    let mut data = record.data;
    data.skip(offset).ok()?;
    let mut word = [0; 8];
    data.read_exact(&mut word).ok()?;
    Some(u64::from_ne_bytes(word))
}

/// Converts a process or thread id. The kernel writes -1 for tasks of other namespaces.
fn id(value: Option<i32>) -> Option<u32> {
    u32::try_from(value?).ok()
}

/// Converts text that the target controls, and that may not be UTF-8.
fn text(data: RawData<'_>) -> String {
    String::from_utf8_lossy(&c_string(data)).into_owned()
}

/// Returns the bytes before the first zero.
fn c_string(data: RawData<'_>) -> Vec<u8> {
    let bytes = data.as_slice();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes[..end].to_vec()
}

#[cfg(test)]
mod tests;
