//! Profiles for tests, written as `root > function@line > +inlined@line`.

use simprof_model::{
    CodeRange, Frame, FrameId, Function, FunctionId, FunctionKind, HeapAmount, HeapAmounts,
    HeapOrigin, HeapProfile, HeapProvenance, HeapSite, HeapTick, LoopLine, Profile, ProfileBuilder,
    StackSample, StateSpan, ThreadId, ThreadStates, TightLoop, WaitCause, WaitSample, WeightKind,
};

use crate::summary::LineCost;

/// Builds a profile from stacks in text form.
pub(crate) struct Sketch {
    builder: ProfileBuilder,
    thread: ThreadId,
    time_ns: u64,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
        let thread = builder.thread(1, 1, "main");
        Self { builder, thread, time_ns: 0 }
    }

    pub(crate) fn function(
        &mut self,
        name: &str,
        module: Option<&str>,
        file: Option<&str>,
        kind: FunctionKind,
    ) -> FunctionId {
        let name = self.builder.string(name);
        let module = module.map(|path| self.builder.module(path, None));
        let file = file.map(|path| self.builder.string(path));
        self.builder.function(Function { name, module, file, line: None, kind })
    }

    /// Parses a frame from `name@line`. Prefixes: `+` inlined, `k:` kernel, `p:` Python, `?` without a symbol.
    /// `name%file@line` sets the source file (default `src/sim.rs`), `name~module` the module of a native function (default
    /// `/opt/sim`). `name@line#address` sets the address, which is otherwise 0.
    fn frame(&mut self, text: &str) -> FrameId {
        let (inlined, text) = text.strip_prefix('+').map_or((false, text), |rest| (true, rest));
        let (text, place) = text.split_once('@').unwrap_or((text, ""));
        let (line, address) = place.split_once('#').unwrap_or((place, ""));
        let number = |text: &str| {
            (!text.is_empty()).then(|| text.parse::<u32>().expect("a line or an address in a test"))
        };
        let (line, address) = (number(line), number(address).unwrap_or(0).into());
        let (text, module) = text.split_once('~').unwrap_or((text, "/opt/sim"));
        let (name, file) = text.split_once('%').unwrap_or((text, "src/sim.rs"));
        let function = if let Some(name) = name.strip_prefix("k:") {
            self.function(name, Some("[kernel]"), None, FunctionKind::Kernel)
        } else if let Some(name) = name.strip_prefix('?') {
            self.function(name, Some(module), None, FunctionKind::Unsymbolised)
        } else if let Some(name) = name.strip_prefix("p:") {
            self.function(name, None, Some(file), FunctionKind::Python)
        } else {
            self.function(name, Some(module), Some(file), FunctionKind::Native)
        };
        let file = Some(self.builder.string(file));
        self.builder.frame(Frame { function, line, file, address, inlined })
    }

    /// Adds a tight loop in `/opt/sim`. `functions` contain it, innermost first. Lines are written like frames: `name%file@line`.
    pub(crate) fn tight_loop(
        mut self,
        code: std::ops::Range<u64>,
        functions: &[&str],
        lines: &[&str],
    ) -> Self {
        let module = self.builder.module("/opt/sim", None);
        let functions = functions.iter().map(|name| self.builder.string(name)).collect();
        let mut found = Vec::new();
        for text in lines {
            let (text, line) = text.split_once('@').expect("a line");
            let (name, file) = text.split_once('%').unwrap_or((text, "src/sim.rs"));
            found.push(LoopLine {
                function: self.builder.string(name),
                file: self.builder.string(file),
                line: line.parse().expect("a line in a test is a number"),
            });
        }
        let code = vec![CodeRange { start: code.start, end: code.end }];
        self.builder.tight_loop(TightLoop { module, code, functions, lines: found });
        self
    }

    /// Sets the time of the next sample; later samples follow in steps of 1 ns.
    pub(crate) fn at(mut self, time_ns: u64) -> Self {
        self.time_ns = time_ns;
        self
    }

    /// Adds a sample; an empty text is a sample without a stack.
    pub(crate) fn sample(mut self, stack: &str, weight: u64) -> Self {
        let texts = stack.split(" > ").filter(|text| !text.is_empty());
        let frames: Vec<FrameId> = texts.map(|text| self.frame(text)).collect();
        self.push(frames, weight)
    }

    /// Adds a wait; its stack is written like that of a sample.
    pub(crate) fn wait(mut self, stack: &str, cause: WaitCause, weight_ns: u64) -> Self {
        let texts = stack.split(" > ").filter(|text| !text.is_empty());
        let frames: Vec<FrameId> = texts.map(|text| self.frame(text)).collect();
        let stack = self.builder.stack(frames);
        let (time_ns, thread) = (self.time_ns, self.thread);
        self.builder.wait(WaitSample { time_ns, thread, stack, weight_ns, cause });
        self.time_ns += 1;
        self
    }

    /// Adds what the current thread did while it had no CPU: ready to run, waiting, unknown.
    pub(crate) fn states(self, runnable_ns: u64, blocked_ns: u64, unknown_ns: u64) -> Self {
        self.states_in(runnable_ns, blocked_ns, unknown_ns, Vec::new())
    }

    /// As [`Sketch::states`], with the spans of time.
    pub(crate) fn states_in(
        mut self,
        runnable_ns: u64,
        blocked_ns: u64,
        unknown_ns: u64,
        spans: Vec<StateSpan>,
    ) -> Self {
        let (thread, running_ns) = (self.thread, 0);
        let states =
            ThreadStates { thread, running_ns, runnable_ns, blocked_ns, unknown_ns, spans };
        self.builder.thread_states(states);
        self
    }

    /// Adds a sample of functions with exactly these names.
    pub(crate) fn stack(mut self, names: &[String], weight: u64) -> Self {
        let frames: Vec<FrameId> = names
            .iter()
            .map(|name| {
                let function = self.function(name, None, None, FunctionKind::Native);
                let (line, file, address, inlined) = (None, None, 0, false);
                self.builder.frame(Frame { function, line, file, address, inlined })
            })
            .collect();
        self.push(frames, weight)
    }

    fn push(mut self, frames: Vec<FrameId>, weight: u64) -> Self {
        let stack = self.builder.stack(frames);
        let (time_ns, thread) = (self.time_ns, self.thread);
        self.builder.sample(StackSample { time_ns, thread, stack, weight });
        self.time_ns += 1;
        self
    }

    /// Sets the thread of later samples.
    pub(crate) fn on_thread(mut self, tid: u32, name: &str) -> Self {
        self.thread = self.builder.thread(1, tid, name);
        self
    }

    /// Sets the process and the thread of later samples.
    pub(crate) fn on_process(mut self, pid: u32, tid: u32) -> Self {
        self.thread = self.builder.thread(pid, tid, "");
        self
    }

    pub(crate) fn builder(&mut self) -> &mut ProfileBuilder {
        &mut self.builder
    }

    pub(crate) fn finish(self) -> Profile {
        self.builder.finish()
    }
}

/// Returns a profile of the given stacks and weights.
pub(crate) fn profile(samples: &[(&str, u64)]) -> Profile {
    samples
        .iter()
        .fold(Sketch::new(), |sketch, (stack, weight)| sketch.sample(stack, *weight))
        .finish()
}

/// Call profiles for tests.
pub(crate) mod calls {
    use std::collections::HashMap;

    use simprof_model::{BUILT_IN_FILE, CallProfile, CalledFunction, CalledId, Caller, StringId};

    /// Returns calls by the function `name`: their number, and the callee's self and cumulative time, s.
    pub(crate) fn call(name: &str, calls: u64, self_s: f64, cumulative_s: f64) -> (String, Caller) {
        let (self_s, cumulative_s) = (Some(self_s), Some(cumulative_s));
        let function = CalledId(0);
        (name.to_owned(), Caller { function, primitive_calls: calls, calls, self_s, cumulative_s })
    }

    /// Builds a call profile; callers are resolved by name in [`Calls::finish`].
    #[derive(Default)]
    pub(crate) struct Calls {
        profile: CallProfile,
        callers: Vec<Vec<(String, Caller)>>,
    }

    impl Calls {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        /// Adds a function: `name`, `file:name`, or `<name>` for one written in C. Its line is its position.
        pub(crate) fn function(
            mut self,
            name: &str,
            calls: u64,
            self_s: f64,
            cumulative_s: f64,
            callers: &[(String, Caller)],
        ) -> Self {
            let built_in = name.starts_with('<') && !name.contains(">:");
            let (file, name) = match name.rsplit_once(':') {
                _ if built_in => (BUILT_IN_FILE, name),
                Some(parts) => parts,
                None => ("/w/sim.py", name),
            };
            let line = if built_in { 0 } else { self.callers.len() as u32 + 1 };
            let mut string = |text: &str| {
                self.profile.strings.push(text.to_owned());
                StringId(self.profile.strings.len() as u32 - 1)
            };
            let (file, name) = (string(file), string(name));
            self.profile.functions.push(CalledFunction {
                file,
                line,
                name,
                primitive_calls: calls,
                calls,
                self_s,
                cumulative_s,
                callers: Vec::new(),
            });
            self.callers.push(callers.to_vec());
            self
        }

        /// Makes the last function recursive: only this many of its calls are from other functions.
        pub(crate) fn primitive(mut self, calls: u64) -> Self {
            self.profile.functions.last_mut().expect("a function").primitive_calls = calls;
            self
        }

        pub(crate) fn finish(self) -> CallProfile {
            let Self { mut profile, callers } = self;
            let ids: HashMap<String, CalledId> = profile
                .functions
                .iter()
                .map(|function| profile.name(function).to_owned())
                .zip((0..).map(CalledId))
                .collect();
            for (function, callers) in profile.functions.iter_mut().zip(callers) {
                let resolve = |(name, caller)| Caller { function: ids[&name], ..caller };
                function.callers = callers.into_iter().map(resolve).collect();
            }
            profile
        }
    }
}

/// Returns a heap profile in which each stack made one allocation of the given bytes and never freed it.
pub(crate) fn heap(stacks: &[(&str, u64)]) -> HeapProfile {
    let tables = profile(stacks);
    let sites = tables.samples.iter().map(|sample| {
        let amount = HeapAmount { bytes: sample.weight, count: 1, ..HeapAmount::default() };
        let amounts = HeapAmounts {
            allocated: amount,
            peak: amount,
            live: amount,
            largest_bytes: sample.weight,
            records: 1,
            ..HeapAmounts::default()
        };
        HeapSite { stack: sample.stack, origin: HeapOrigin::Malloc, amounts }
    });
    let sites = sites.collect();
    let provenance = HeapProvenance { interval_bytes: 1, ..HeapProvenance::default() };
    HeapProfile::of_sites(Profile { samples: Vec::new(), ..tables }, sites, provenance)
}

/// Adds steps to a heap profile, with a population and with live bytes by site and step.
pub(crate) fn with_ticks(
    mut heap: HeapProfile,
    steps: u64,
    population: impl Fn(u64) -> Option<u64>,
    live: impl Fn(usize, u64) -> u64,
) -> HeapProfile {
    heap.steps = steps;
    let sites = heap.sites.len();
    heap.ticks = (0..steps)
        .map(|step| HeapTick {
            end_ns: (step + 1) * 1_000_000,
            steps: 1,
            live_bytes: (0..sites).map(|site| live(site, step)).sum(),
            population: population(step),
            ..HeapTick::default()
        })
        .collect();
    for (at, site) in heap.sites.iter_mut().enumerate() {
        site.amounts.live_at_ticks = (0..steps).map(|step| live(at, step)).collect();
    }
    heap
}

/// Returns a line with half of the CPU time, without memory.
pub(crate) fn line_cost(function: &str, line: u32) -> LineCost {
    LineCost {
        function: function.to_owned(),
        file: "src/sim.rs".to_owned(),
        line,
        in_loop: None,
        cpu_share: 0.5,
        self_share: None,
        interval: [0.4, 0.6],
        callees: Vec::new(),
        time: None,
        natives: Vec::new(),
        text: None,
        alloc_bytes: None,
        alloc_count: None,
        leaked_bytes: None,
    }
}
