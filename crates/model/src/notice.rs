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
    // The run.
    /// A phase used up its share of the budget, so sizes or repetitions are missing.
    BudgetUsedUp,
    /// One run of each phase takes longer than the budget.
    BudgetTooShort,
    // The machine.
    /// Other programs used the machine.
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
    /// Processes still ran when the target's main process ended, and simprof ended them.
    ProcessesOutlived,
    /// Processes could not be ended and still run.
    ProcessesUnkillable,
    /// The preload library could not be loaded into the target.
    LibraryNotLoaded,
    /// Output of the target could not be written to its log.
    OutputNotWritten,
    /// The target wrote more output than simprof keeps.
    OutputDropped,
    /// Standard input was not passed on to the target.
    InputNotPassed,
    /// The target failed near a limit of its resources, of which simprof uses a part.
    LimitShared,
    /// The target was killed by a seccomp filter, perhaps because of simprof's library.
    KilledByFilter,
    /// The disk for the target's output is full.
    DiskFull,
    /// The thread that reads the target's output failed.
    OutputReaderFailed,

    // Steps.
    /// The step function that the spec names was never called.
    StepFunctionNotCalled,
    /// No line of the output matches the step pattern.
    StepPatternNotMatched,
    /// Steps last from one call or line to the next, and there was only one.
    StepSeenOnce,
    /// The steps cover little of the time from the first begin to the last end.
    StepsCoverLittle,
    /// The target does not flush after each line, so its printed steps cannot be timed.
    StepOutputBuffered,
    /// Beginnings of steps have no end, or the reverse.
    StepMarksUnpaired,
    /// Step marks were overwritten before they were read.
    StepMarksLost,
    /// There were more steps than simprof keeps.
    StepsDropped,

    // Resources.
    /// The thread that samples resources failed.
    ResourcesFailed,
    /// The kernel does not report the target's storage I/O.
    IoNotReported,
    /// The kernel does not list child processes.
    ChildrenNotListed,
    /// There were more ended threads than simprof lists.
    ThreadsNotListed,

    // Sampled stacks.
    /// Several short runs were joined into one profile.
    RunsJoined,
    /// There are few samples, so intervals are wide.
    FewSamples,
    /// So few samples lie inside steps that they do not support figures per step.
    FewSamplesInSteps,
    /// Many stacks are truncated.
    StacksTruncated,
    /// simprof itself used much CPU time.
    RecorderCostly,
    /// Time in the kernel is not sampled.
    KernelNotSampled,
    /// The kernel paused sampling because samples came too fast.
    SamplingThrottled,
    /// The kernel lost records of mappings or processes.
    LifecycleRecordsLost,
    /// Records from the kernel could not be parsed.
    RecordsMalformed,
    /// Program files could not be opened for symbols.
    ModulesNotOpened,
    /// Files with debug information that a program refers to were not found.
    DebugFilesMissing,
    /// Much time is in code without a file and without names.
    AnonymousCode,
    /// Far fewer samples arrived than were due for the CPU time.
    SamplesMissing,
    /// Threads wait so often that recording it makes the kernel's share too large.
    WaitsFrequent,
    /// Processes were not sampled, so their CPU time is missing.
    ProcessesUnsampled,
    /// The sample buffers are smaller than intended.
    BufferReduced,
    /// The scheduler's records are not available, so it is unknown whether threads that had no CPU waited or were ready to run.
    ThreadStatesUnknown,
    /// The places where threads wait are not recorded.
    WaitsNotLocated,
    /// A control group's CPU quota stopped the target's threads.
    CpuThrottled,
    /// Joined runs were sampled by different events.
    EventsDiffer,
    /// A profile could not be exported to one of its files.
    ExportFailed,

    // Python.
    /// Python frames of a process are missing.
    PythonFramesMissing,
    /// Many samples have no Python frames, or incomplete ones.
    PythonFramesLost,
    /// Many samples have too many Python frames, so frames in the middle of their stacks are missing.
    PythonFramesLeftOut,
    /// The Python and the native frames of many samples could not be merged.
    PythonFramesUnmerged,
    /// There were more Python processes than simprof can follow.
    PythonProcessesLost,
    /// Python processes did not load the preload library.
    PythonLibraryNotLoaded,
    /// The tables for distinct Python stacks are full.
    PythonTablesFull,
    /// Calls were not counted.
    CallsNotCounted,

    // Memory.
    /// Memory was not recorded.
    MemoryNotRecorded,
    /// The program was ended during the recording, which covers the time until then.
    MemoryRecordedInPart,
    /// Too few allocations were sampled, so a second run sampled more.
    MemorySampledAgain,
    /// Allocations of some processes could not be recorded. The text gives the reason.
    HeapProcessesRefused,
    /// What some libraries allocate and free is not recorded.
    HeapLibrariesUnseen,
    /// Some processes did not load the library, so their memory is missing.
    HeapProcessesUnrecorded,
    /// No process reported allocations.
    HeapNothingRecorded,
    /// The recording stopped before the target ended.
    HeapRecordingStopped,
    /// Records of allocations or frees were lost.
    HeapRecordsLost,
    /// Some records of allocations are incomplete.
    HeapRecordsTorn,
    /// There were more processes than simprof can follow.
    HeapProcessesLost,
    /// There were more live allocations than simprof can follow.
    HeapLiveTableFull,
    /// Some allocations have no stack, or only a part of one.
    HeapStacksMissing,
    /// Some modules have no names.
    HeapModulesUnnamed,
    /// Recorded allocations explain too little of the memory growth.
    HeapGrowthUnexplained,
    /// Much of the memory growth is pages of files.
    HeapGrowthOfFiles,

    // Laws, predictions, phases.
    /// A law does not use all measured sizes.
    SizesSkipped,
    /// The values of a sweep cannot give a law.
    SweepCannotGiveLaw,
    /// A rule of a component matches no function.
    ComponentRuleUnmatched,
    /// The data do not support a prediction.
    PredictionRefused,
    /// No function matches a name that phase 3 was asked to examine.
    FunctionNotFound,
    /// A phase ended before everything planned was measured.
    PhaseCutShort,
    /// Phases of one run were measured on different machines or with different versions.
    PhasesDiffer,

    // Profiles made elsewhere.
    /// The times include the tracer's own cost.
    TracerOverhead,
    /// The text states which clock and which threads the trace covers.
    TracerClock,
    /// Time of functions with equal names is missing.
    TracedTimeMissing,
    /// Some functions have negative times.
    TracedTimeNegative,
    /// The file does not record how samples were taken.
    SamplingUnknown,
    /// Lines of the file are not stacks with weights and were skipped.
    LinesSkipped,
    /// Lines of the file have two weights.
    WeightColumns,
    /// A part of the weight has an empty stack.
    StacksEmpty,
    /// Frames were still open at the end of the file.
    FramesLeftOpen,
}

impl NoticeId {
    /// Returns whether the terminal shows the notice at once. Other notices are only in the report. An urgent notice means that the user
    /// has to fix the spec or the target, or that figures are of a part of the program only.
    pub fn is_urgent(self) -> bool {
        self.is_about_steps_as_specified()
            || matches!(
                self,
                NoticeId::BudgetUsedUp
                    | NoticeId::ProcessesOutlived
                    | NoticeId::SizesSkipped
                    | NoticeId::SweepCannotGiveLaw
                    | NoticeId::ComponentRuleUnmatched
                    | NoticeId::ProcessesUnsampled
                    | NoticeId::PythonFramesLeftOut
                    | NoticeId::PythonFramesLost
                    | NoticeId::PythonLibraryNotLoaded
                    | NoticeId::FewSamplesInSteps
                    | NoticeId::OutputDropped
                    | NoticeId::InputNotPassed
                    | NoticeId::LimitShared
                    | NoticeId::KilledByFilter
                    | NoticeId::HeapLibrariesUnseen
                    | NoticeId::HeapProcessesRefused
            )
    }

    /// Returns whether the notice means that steps are not what the spec or the target says. Every run of the target gives the same
    /// notice with other figures, so the first one of a phase stands for all.
    pub fn is_about_steps_as_specified(self) -> bool {
        self.is_step_never_seen()
            || matches!(
                self,
                NoticeId::StepOutputBuffered | NoticeId::StepSeenOnce | NoticeId::StepsCoverLittle
            )
    }

    /// Returns whether the notice means that nothing of what the spec calls a step was seen. The run then did not do what was asked.
    pub fn is_step_never_seen(self) -> bool {
        matches!(self, NoticeId::StepFunctionNotCalled | NoticeId::StepPatternNotMatched)
    }
}
