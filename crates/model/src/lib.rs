//! The data of a profiling run, and how it is kept on disk; it decides nothing.
//!
//! Two shapes carry everything that is measured: a [`Profile`] (and a [`HeapProfile`], for memory) says *where* a cost
//! is, a [`Measurement`] says *how much* it is. A [`CallProfile`] is what a tracer counted, call by call. A [`Run`] is the
//! manifest that ties them together.

mod calls;
mod calls_sum;
mod heap;
mod machine;
mod measurement;
mod notice;
mod profile;
mod run;
mod steps;
mod store;
mod timeline;

pub use calls::{BUILT_IN_FILE, CallProfile, CalledFunction, CalledId, Caller};
pub use heap::{
    HEAP_SCHEMA, HeapAmount, HeapAmounts, HeapCoverage, HeapInterval, HeapOrigin, HeapProfile,
    HeapProvenance, HeapSite, HeapSizeClass, HeapTick, NORMAL_95, SHORT_LIVED_NS,
};
pub use machine::Machine;
pub use measurement::{Measurement, Metric, Replicate, Status, Value};
pub use notice::{Notice, NoticeId, add_notices, has_notice};
pub use profile::{
    Frame, FrameId, Function, FunctionId, FunctionKind, Module, ModuleId, PROFILE_SCHEMA, Profile,
    ProfileBuilder, Provenance, PythonProvenance, StackId, StackNode, StackSample, StringId,
    Thread, ThreadId, WaitCause, WaitSample, WeightKind,
};
pub use run::{Mode, Phase, PhaseRecord, RUN_SCHEMA, Run, RunStatus};
pub use steps::{Step, Steps};
pub use store::{StoreError, append_line, read_json, write_atomically, write_json};
pub use timeline::{ResourceSample, ThreadCpu, Timeline};
