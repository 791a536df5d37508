//! A target that exists only in tests: a session whose processes are recorded results.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use simprof_model::{
    Frame, Function, FunctionKind, Machine, Mode, Phase, PhaseRecord, Profile, ProfileBuilder,
    Provenance, RUN_SCHEMA, Run, RunStatus, StackSample, Steps, Timeline, WeightKind,
};
use simprof_record::{Outcome, RecordError, Recording};
use simprof_report::analysis::ComponentRules;

use super::{Invocation, Observe, Observed, Processes, Stacks};
use crate::budget::Budget;
use crate::folder::RunFolder;
use crate::plan::{self, Plan, Request};
use crate::progress::Progress;
use crate::python::CallCounts;
use crate::session::{Evidence, Session};
use crate::spec::{Spec, Strictness};

/// Processes whose results are prepared by a test. Running more processes than there are results is a failure of the
/// test.
#[derive(Debug, Clone, Default)]
pub struct FakeProcesses(Rc<State>);

#[derive(Debug, Default)]
struct State {
    results: RefCell<VecDeque<Result<Observed, RecordError>>>,
    calls: RefCell<VecDeque<(Recording, CallCounts)>>,
    started: RefCell<Vec<Started>>,
    cancel_after: Cell<Option<usize>>,
    /// Time since the start, which the wall time of each process advances.
    clock: Cell<Duration>,
}

/// A process that was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// Its argument vector.
    pub argv: Vec<String>,
    /// What was to be recorded.
    pub observe: Observe,
}

impl FakeProcesses {
    /// Creates processes with these results, in order.
    pub fn new(results: impl IntoIterator<Item = Observed>) -> Self {
        let fake = Self::default();
        fake.0.results.borrow_mut().extend(results.into_iter().map(Ok));
        fake
    }

    /// Lets the next process fail to start.
    pub fn refuse(&self, error: RecordError) {
        self.0.results.borrow_mut().push_back(Err(error));
    }

    /// Adds the result of a run that counts calls.
    pub fn add_calls(&self, recording: Recording, counts: CallCounts) {
        self.0.calls.borrow_mut().push_back((recording, counts));
    }

    /// Behaves as if the user had asked to stop after `count` processes.
    pub fn cancel_after(&self, count: usize) {
        self.0.cancel_after.set(Some(count));
    }

    /// Returns the processes that were started.
    pub fn started(&self) -> Vec<Started> {
        self.0.started.borrow().clone()
    }

    fn note(&self, invocation: &Invocation<'_>) {
        let argv = invocation.command.argv(invocation.parameters);
        self.0.started.borrow_mut().push(Started { argv, observe: invocation.observe });
    }
}

impl Processes for FakeProcesses {
    fn run(&self, invocation: &Invocation<'_>) -> Result<Observed, RecordError> {
        self.note(invocation);
        let result = self.0.results.borrow_mut().pop_front();
        let result = result.expect("the test has a result for each process");
        if let Ok(Observed { recording, .. }) = &result {
            self.0.clock.set(self.0.clock.get() + Duration::from_nanos(recording.wall_ns));
        }
        result
    }

    fn count_calls(
        &self,
        invocation: &Invocation<'_>,
        _limit: Duration,
    ) -> Result<(Recording, CallCounts), RecordError> {
        self.note(invocation);
        Ok(self.0.calls.borrow_mut().pop_front().expect("the test has counts for each process"))
    }

    fn is_cancelled(&self) -> bool {
        self.0.cancel_after.get().is_some_and(|count| self.0.started.borrow().len() >= count)
    }
}

/// Returns the recording of a process that ended so.
pub fn recording(outcome: Outcome) -> Recording {
    Recording {
        outcome,
        wall_ns: 250_000_000,
        start_ns: 0,
        end_ns: 250_000_000,
        user_cpu_ns: 200_000_000,
        system_cpu_ns: 10_000_000,
        peak_rss_bytes: 8 << 20,
        samples: None,
        sampling_error: None,
        heap: None,
        timeline: Timeline::default(),
        resources_cpu_ns: 0,
        steps: Steps::default(),
        unmatched_marks: 0,
        stdout_tail: String::new(),
        stderr_tail: String::new(),
        leftovers: Vec::new(),
        notices: Vec::new(),
    }
}

/// Returns a process without stack samples that ended so.
pub fn ended(outcome: Outcome) -> Observed {
    Observed { recording: recording(outcome), stacks: None }
}

/// Returns a process that ended so, with a profile of `samples` samples.
pub fn sampled(outcome: Outcome, samples: u64) -> Observed {
    let stacks = Some(Stacks::Recorded(profile(samples, FunctionKind::Native)));
    Observed { recording: recording(outcome), stacks }
}

/// Returns a profile with `samples` samples of one function.
pub fn profile(samples: u64, kind: FunctionKind) -> Profile {
    let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
    let name = builder.string("work");
    let function = builder.function(Function { name, module: None, file: None, line: None, kind });
    let frame =
        builder.frame(Frame { function, line: None, file: None, address: 0, inlined: false });
    let thread = builder.thread(1, 1, "main");
    for time_ns in 0..samples {
        let stack = builder.stack([frame]);
        builder.sample(StackSample { time_ns, thread, stack, weight: 1_000_000 });
    }
    *builder.provenance() = Provenance {
        event: "cpu-clock".into(),
        samples,
        target_cpu_ns: samples * 1_000_000,
        ..Provenance::default()
    };
    builder.finish()
}

/// Joins profiles, whose samples all have stacks and one thread, into one.
pub fn joined(profiles: &[Profile]) -> Profile {
    let mut joined = ProfileBuilder::new(WeightKind::CpuNs);
    let thread = joined.thread(1, 1, "main");
    for profile in profiles {
        let stacks = joined.absorb_stacks(profile, |_| true);
        for sample in &profile.samples {
            let stack = sample.stack.and_then(|id| stacks[id.index()]);
            joined.sample(StackSample { thread, stack, ..*sample });
        }
        joined.provenance().absorb(&profile.provenance);
    }
    joined.finish()
}

/// Returns the plan of a full run of a spec, without a budget.
pub fn plan_for(spec: &str) -> Plan {
    plan_within(spec, None)
}

/// Returns the plan of a full run of a spec with a budget.
pub fn plan_within(spec: &str, budget: Option<Duration>) -> Plan {
    let spec = Spec::parse(spec, "spec").unwrap_or_else(|error| panic!("{error}"));
    let request = Request {
        mode: Mode::Full,
        budget,
        phases: vec![],
        components: vec![],
        functions: vec![],
        memory: None,
        timeout: None,
        terminal: false,
        keep_output: 64 << 20,
        rate_hz: 1000,
        seed: 1,
        repeats: Some(3),
        strictness: Strictness::Strict,
    };
    plan::plan(spec, &request).unwrap_or_else(|error| panic!("{error}"))
}

/// A session with fake processes, and the folder that it writes to.
pub struct FakeSession<'p> {
    /// The session.
    pub session: Session<'p>,
    _output: tempfile::TempDir,
}

impl<'p> FakeSession<'p> {
    /// Creates a session for a plan.
    pub fn new(plan: &'p Plan, processes: &FakeProcesses) -> Self {
        let output = tempfile::tempdir().expect("a temporary folder");
        let folder = RunFolder::create(output.path(), manifest(&plan.phases)).expect("a folder");
        let no_rules: [(String, Vec<String>); 0] = [];
        let clock = processes.clone();
        let session = Session {
            plan,
            folder,
            processes: Box::new(processes.clone()),
            progress: Progress::new(),
            rules: ComponentRules::new(no_rules).expect("no rules"),
            evidence: Evidence::default(),
            stopped: None,
            budget: Budget::with_clock(plan.budget, move || clock.0.clock.get()),
        };
        Self { session, _output: output }
    }

    /// Returns the record of a phase in the manifest.
    pub fn record(&self, phase: Phase) -> &PhaseRecord {
        self.session.folder.run().phase(phase).expect("the phase is planned")
    }
}

/// Returns the manifest of a run that has just started.
pub fn manifest(phases: &[Phase]) -> Run {
    Run {
        schema: RUN_SCHEMA.into(),
        simprof_version: String::new(),
        name: String::new(),
        status: RunStatus::Running,
        pid: 1,
        pid_start_ticks: None,
        problems: vec![],
        created_ms: 0,
        updated_ms: 0,
        ended_ms: None,
        arguments: vec![],
        joined: vec![],
        target: vec![],
        target_name: String::new(),
        seed: 0,
        mode: Mode::Quick,
        budget_s: None,
        machine: Machine::default(),
        spec: String::new(),
        phases: phases.iter().map(|&phase| PhaseRecord::waiting(phase, 1, 0.0)).collect(),
        notices: vec![],
    }
}
