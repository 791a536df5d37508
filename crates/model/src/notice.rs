//! Notices: facts about a result that a reader must know before relying on it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something a reader must know about a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// Kind of notice. Scripts test this; the wording of `text` may change.
    pub id: NoticeId,
    /// One or two sentences for people: what happened and what to do about it.
    pub text: String,
}

impl Notice {
    /// Creates a notice.
    pub fn new(id: NoticeId, text: impl Into<String>) -> Self {
        Self { id, text: text.into() }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Appends the notices of `more` that `notices` does not contain yet, in their order.
pub fn add_notices(notices: &mut Vec<Notice>, more: impl IntoIterator<Item = Notice>) {
    for notice in more {
        if !notices.contains(&notice) {
            notices.push(notice);
        }
    }
}

/// Returns whether `notices` contains a notice of this kind.
pub fn has_notice(notices: &[Notice], id: NoticeId) -> bool {
    notices.iter().any(|notice| notice.id == id)
}

/// Kinds of notices.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NoticeId {
    // The machine.
    /// Other programs load the machine.
    MachineBusy,
    /// The CPU frequency governor changes the clock with the load.
    FrequencyGovernor,
    /// A control group limits CPU time.
    CpuLimited,
    /// A control group limits memory.
    MemoryLimited,
    /// The machine runs on battery.
    OnBattery,

    // The target's processes and output.
    /// Processes outlived the target's main process and were ended.
    ProcessesOutlived,
    /// Processes could not be ended and still run.
    ProcessesUnkillable,
    /// The preload library could not be loaded into the target.
    LibraryNotLoaded,
    /// Output of the target could not be written to its log.
    OutputNotWritten,
    /// The disk that the target's output is written to is full.
    DiskFull,
    /// The thread that reads the target's output failed.
    OutputReaderFailed,

    // Steps.
    /// The step function that the spec names was never called.
    StepFunctionNotCalled,
    /// No line of the output matches the step pattern.
    StepPatternNotMatched,
    /// The target buffers its output, so the times of printed steps are wrong.
    StepOutputBuffered,
    /// Step marks have no counterpart.
    StepMarksUnpaired,
    /// Step marks were overwritten before they were read.
    StepMarksLost,
    /// Steps beyond the limit were dropped.
    StepsDropped,

    // Resources.
    /// The thread that samples resources failed.
    ResourcesFailed,
    /// The kernel does not report the target's storage I/O.
    IoNotReported,
    /// The kernel does not list child processes.
    ChildrenNotListed,
    /// Ended threads beyond the limit are not listed.
    ThreadsNotListed,

    // Sampled stacks.
    /// Several short runs were joined into one profile.
    RunsJoined,
    /// Few samples, so intervals are wide.
    FewSamples,
    /// Many stacks are truncated.
    StacksTruncated,
    /// The recorder used much CPU time.
    RecorderCostly,
    /// Time in the kernel is not sampled.
    KernelNotSampled,
    /// The kernel throttled sampling.
    SamplingThrottled,
    /// The kernel lost records of mappings or processes.
    LifecycleRecordsLost,
    /// Records from the kernel could not be parsed.
    RecordsMalformed,
    /// Program files could not be opened for symbols.
    ModulesNotOpened,
    /// Far fewer samples arrived than were due.
    SamplesMissing,
    /// The sample buffer is smaller than wanted.
    BufferReduced,
    /// Joined runs were sampled by different events.
    EventsDiffer,
    /// A file of the profile could not be exported.
    ExportFailed,

    // Python.
    /// Python frames of a process are missing.
    PythonFramesMissing,
    /// Python frames of many samples were lost or torn.
    PythonFramesLost,
    /// More Python processes than can be followed.
    PythonProcessesLost,
    /// Python processes did not load the preload library.
    PythonLibraryNotLoaded,
    /// The tables for distinct Python stacks are full.
    PythonTablesFull,
    /// Exact calls were not counted.
    CallsNotCounted,

    // Memory.
    /// Memory was not recorded.
    MemoryNotRecorded,
    /// Memory was recorded until the program ended early.
    MemoryRecordedInPart,
    /// Too few allocations were sampled; another run sampled more.
    MemorySampledAgain,
    /// Allocations of processes could not be recorded, with the reason.
    HeapProcessesRefused,
    /// The library was not loaded into some processes.
    HeapProcessesUnrecorded,
    /// No process reported allocations.
    HeapNothingRecorded,
    /// Recording stopped before the target ended.
    HeapRecordingStopped,
    /// Records of allocations or frees were lost.
    HeapRecordsLost,
    /// Records of allocations were not finished.
    HeapRecordsTorn,
    /// More processes than can be followed.
    HeapProcessesLost,
    /// More live allocations than can be followed.
    HeapLiveTableFull,
    /// Allocations without a stack, or with a part of one.
    HeapStacksMissing,
    /// Modules have no names.
    HeapModulesUnnamed,
    /// Recorded allocations explain too little of the memory growth.
    HeapGrowthUnexplained,
    /// Much of the memory growth is pages of files.
    HeapGrowthOfFiles,

    // Laws, predictions, phases.
    /// No prediction can be made.
    PredictionRefused,
    /// A function asked for was not found.
    FunctionNotFound,
    /// A phase ended before everything planned was measured.
    PhaseCutShort,

    // Profiles made elsewhere.
    /// The tracer's own cost is in the times.
    TracerOverhead,
    /// Which clock and threads a trace covers.
    TracerClock,
    /// Time of functions with equal names is missing.
    TracedTimeMissing,
    /// Functions with negative times.
    TracedTimeNegative,
    /// The file does not record how samples were taken.
    SamplingUnknown,
}

impl NoticeId {
    /// Returns whether the terminal shows the notice at once, not only the report: it means that the spec or the
    /// target has to be fixed.
    pub fn is_urgent(self) -> bool {
        matches!(self, NoticeId::StepFunctionNotCalled | NoticeId::ProcessesOutlived)
    }
}
