//! Steps of Python programs: functions that are named, and the marker module; in every Python that is there.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Done, Place, installed_pythons, pythons, source};

const STEPS: usize = 25;

/// The Pythons that can be followed: not those without the global lock.
pub fn followed() -> Vec<PathBuf> {
    let place = Place::new();
    let code = "import sys; sys.exit(sys.version_info < (3, 9) or 't' in sys.abiflags)";
    let is_new = |python: &PathBuf| {
        let python = python.to_str().expect("the path is text");
        place.done(place.program(python, &["-c", code])).status == Some(0)
    };
    pythons().into_iter().filter(is_new).collect()
}

/// Those of them that take the usual options and variables.
fn installed() -> Vec<PathBuf> {
    let installed = installed_pythons();
    followed().into_iter().filter(|python| installed.contains(python)).collect()
}

fn spec(command: &[&str], step: Option<&str>) -> String {
    let step = step.map_or_else(String::new, |step| format!("step = {step:?}\n"));
    format!("[target]\ncommand = {command:?}\n{step}")
}

/// Follows the resources of one run, for which nothing needs to be sampled.
fn run(place: &Place, spec: &str) -> (Done, Value) {
    place.write("simprof.toml", spec);
    let done = place.simprof(&["run", "--quick", "--phase", "4"]);
    done.assert_status(0);
    (done, place.json("phase4/phase4_summary.json")["timeline"].clone())
}

#[test]
fn calls_of_a_named_function_are_steps() {
    let program = source("ticks.py");
    let program = program.to_str().expect("the path is text");
    for python in followed() {
        let python = python.to_str().expect("the path is text");
        for step in [
            "__main__:Own.step",
            "ticks:Own.step",
            "__main__:own_tick",
            "ticks_model:Model.step",
            "ticks_model:Model.inherited",
            "ticks_model:Base.inherited",
            "ticks_model:Model.recurse",
            "ticks_model:Model.fails",
            "ticks_model:Model.yields",
            "ticks_model:Model.awaits",
            "ticks_model:Model.on_class",
            "ticks_model:Model.static",
            "ticks_model:tick",
        ] {
            let place = Place::new();
            let command = [python, program, "plain", &STEPS.to_string()];
            let (done, timeline) = run(&place, &spec(&command, Some(step)));
            assert_eq!(timeline["steps"], STEPS, "{python} {step}: {done:#?}");
            assert!(!done.stderr.contains("target.step"), "{python} {step}: {done:#?}");
        }
    }
}

#[test]
fn a_program_is_followed_however_it_is_started() {
    let folder = source("ticks.py");
    let folder = folder.parent().expect("a folder").to_str().expect("the path is text");
    let code = "import ticks; ticks.run('threads', 25)";
    for python in installed() {
        let python = python.to_str().expect("the path is text");
        let steps = STEPS.to_string();
        for (command, step, expected) in [
            (&[python, "-m", "ticks", "plain", &steps][..], "__main__:own_tick", STEPS),
            (&[python, "-m", "ticks", "plain", &steps], "ticks:Own.step", STEPS),
            (&[python, "-c", code], "ticks:own_tick", STEPS),
            (&[python, "-c", code], "ticks_model:tick", STEPS + 4),
            (&[python, "-S", "ticks.py", "threads", &steps], "ticks_model:tick", STEPS + 4),
            (&[python, "-E", "-s", "-B", "ticks.py", "threads", &steps], "ticks:own_tick", STEPS),
        ] {
            let place = Place::new();
            let spec = format!("{}directory = {folder:?}\n", spec(command, Some(step)));
            let (done, timeline) = run(&place, &spec);
            assert_eq!(timeline["steps"], expected, "{command:?} {step}: {done:#?}");
        }
    }
}

#[test]
fn a_function_that_is_not_there_is_named_with_the_nearest() {
    let program = source("ticks.py");
    let program = program.to_str().expect("the path is text");
    for python in followed() {
        let python = python.to_str().expect("the path is text");
        for (step, words) in [
            (
                "ticks_model:Model.stop",
                "`ticks_model` has no `Model.stop`; did you mean `Model.step`?",
            ),
            (
                "ticks_modle:tick",
                "no module `ticks_modle` was imported; did you mean `ticks_model`?",
            ),
            ("__main__:own_tack", "`__main__` has no `own_tack`; did you mean `own_tick`?"),
            ("ticks_model:Model.uncalled", "it exists, but its Python code was not called"),
            ("ticks_model:Model", "Model is a class; give the name of a method"),
            ("nomod:step", "no module `nomod` was imported; imported modules are __main__"),
        ] {
            let place = Place::new();
            let (done, timeline) = run(&place, &spec(&[python, program, "plain", "3"], Some(step)));
            assert_eq!(timeline["steps"], 0, "{python} {step}: {done:#?}");
            done.assert_says(&["target.step", step, words]);
        }
    }
}

#[test]
fn steps_that_overlap_are_steps_of_their_own() {
    let text = "\
import asyncio
class Agent:
    async def step(self):
        await asyncio.sleep(0.001)
    def turns(self):
        yield 1
        yield 2
async def run():
    agent = Agent()
    for _ in range(4): await agent.step()
async def main():
    await asyncio.gather(*[run() for _ in range(5)])
asyncio.run(main())
for _ in range(10):
    one, other = Agent().turns(), Agent().turns()
    assert [next(one), next(other), list(one), list(other)] == [1, 1, [2], [2]]
";
    for python in followed() {
        let python = python.to_str().expect("the path is text");
        for step in ["__main__:Agent.step", "__main__:Agent.turns"] {
            let place = Place::new();
            let program = place.write("overlap.py", text);
            let command = [python, program.to_str().expect("the path is text")];
            let (done, timeline) = run(&place, &spec(&command, Some(step)));
            assert_eq!(timeline["steps"], 20, "{python} {step}: {done:#?}");
        }
    }
}

#[test]
fn what_is_alive_at_the_end_ends_as_it_always_does() {
    let text = "\
import posix
class Resource:
    def __del__(self, make=posix.mkdir): make('deleted')
class World:
    def step(self): pass
resource, world = Resource(), World()
for _ in range(25): world.step()
";
    for python in followed() {
        let place = Place::new();
        let program = place.write("ends.py", text);
        let python = python.to_str().expect("the path is text");
        let command = [python, program.to_str().expect("the path is text")];
        let (done, timeline) = run(&place, &spec(&command, Some("__main__:World.step")));
        assert_eq!(timeline["steps"], STEPS, "{python}: {done:#?}");
        assert!(place.path("deleted").exists(), "{python}: {done:#?}");
    }
}

#[test]
fn a_recursive_step_has_the_levels_that_it_always_has() {
    let text = "\
import inspect
class Model:
    def dig(self, depth):
        return depth and 1 + self.dig(depth - 1)
    def sign(self, a, b=2, *, c=3): return __class__
assert [Model().dig(900) for _ in range(25)] == [900] * 25
assert [Model().sign(1, c=4) for _ in range(25)] == [Model] * 25
assert str(inspect.signature(Model.sign)) == '(self, a, b=2, *, c=3)'
";
    for python in followed() {
        let python = python.to_str().expect("the path is text");
        for step in ["__main__:Model.dig", "__main__:Model.sign"] {
            let place = Place::new();
            let program = place.write("deep.py", text);
            let command = [python, program.to_str().expect("the path is text")];
            let (done, timeline) = run(&place, &spec(&command, Some(step)));
            assert_eq!(timeline["steps"], STEPS, "{python} {step}: {done:#?}");
        }
    }
}

#[test]
fn a_program_without_python_says_so() {
    let place = Place::new();
    let (done, _) = run(&place, &spec(&["true"], Some("sim:step")));
    done.assert_says(&["target.step", "sim:step", "ran no Python"]);
}

#[test]
fn functions_of_other_languages_are_refused_with_the_mend() {
    let place = Place::new();
    place.write("simprof.toml", &spec(&["true"], Some("world::Model::step")));
    let done = place.simprof(&["run", "--quick"]);
    done.assert_status(2);
    done.assert_says(&["target.step", "world::Model::step", "package.module:Class.step"]);
}

#[test]
fn the_marker_module_marks_steps() {
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
    let program = "\
import sys, asyncio, simprof_probe
class Model:
    @simprof_probe.step
    def advance(self, depth=0): return depth and self.advance(depth - 1)
    @simprof_probe.step
    async def awaits(self): await asyncio.sleep(0)
model = Model()
assert simprof_probe.is_recorded() == (sys.argv[1] == 'recorded')
for n in range(10): simprof_probe.step(population=n)
simprof_probe.end()
for n in range(10):
    with simprof_probe.step() as step: step.population = n
for n in range(10):
    assert model.advance(3) == 0
    asyncio.run(model.awaits())
simprof_probe.step_begin(77); simprof_probe.step_end(77, 5)
";
    for python in installed() {
        let python = python.to_str().expect("the path is text");
        let place = Place::new();
        let program = place.write("marks.py", program);
        let program = program.to_str().expect("the path is text");
        let spec = spec(&[python, program, "recorded"], None);
        let (done, timeline) =
            run(&place, &format!("{spec}environment = {{ PYTHONPATH = {module:?} }}\n"));
        assert_eq!(timeline["steps"], 41, "{python}: {done:#?}");
        let mut alone = place.program(python, &[program, "alone"]);
        alone.env("PYTHONPATH", module);
        place.done(alone).assert_status(0);
    }
}
