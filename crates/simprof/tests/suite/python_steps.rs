//! Steps of Python programs, defined by named functions or marked with the module `simprof_probe`, in every Python of the machine.

use serde_json::Value;
use simprof_testkit::{installed_pythons, pythons};

use crate::support::{Done, Workspace, python_program};

const STEPS: usize = 25;

fn spec(command: &[&str], step: Option<&str>) -> String {
    let step = step.map_or_else(String::new, |step| format!("step = {step:?}\n"));
    format!("[target]\ncommand = {command:?}\n{step}")
}

/// Runs phase 4, which needs no sampling, and returns its timeline.
fn run(workspace: &Workspace, spec: &str) -> (Done, Value) {
    workspace.write("simprof.toml", spec);
    let done = workspace.simprof(&["run", "--quick", "--phase", "4"]);
    done.assert_status(0);
    (done, workspace.json("phase4/phase4_summary.json")["timeline"].clone())
}

#[test]
fn calls_of_a_named_function_are_steps() {
    let program = python_program("ticks.py");
    for python in pythons() {
        let python = python.text();
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
            let workspace = Workspace::new();
            let command = [python, &program, "plain", &STEPS.to_string()];
            let (done, timeline) = run(&workspace, &spec(&command, Some(step)));
            assert_eq!(timeline["steps"], STEPS, "{python} {step}: {done:#?}");
            assert!(!done.stderr.contains("target.step"), "{python} {step}: {done:#?}");
        }
    }
}

#[test]
fn steps_are_counted_however_the_program_is_started() {
    let program = python_program("ticks.py");
    let folder = program.strip_suffix("/ticks.py").expect("its name");
    let code = "import ticks; ticks.run('threads', 25)";
    for python in installed_pythons() {
        let python = python.text();
        let steps = STEPS.to_string();
        for (command, step, expected) in [
            (&[python, "-m", "ticks", "plain", &steps][..], "__main__:own_tick", STEPS),
            (&[python, "-m", "ticks", "plain", &steps], "ticks:Own.step", STEPS),
            (&[python, "-c", code], "ticks:own_tick", STEPS),
            (&[python, "-c", code], "ticks_model:tick", STEPS + 4),
            (&[python, "-S", "ticks.py", "threads", &steps], "ticks_model:tick", STEPS + 4),
            (&[python, "-E", "-s", "-B", "ticks.py", "threads", &steps], "ticks:own_tick", STEPS),
        ] {
            let workspace = Workspace::new();
            let spec = format!("{}directory = {folder:?}\n", spec(command, Some(step)));
            let (done, timeline) = run(&workspace, &spec);
            assert_eq!(timeline["steps"], expected, "{command:?} {step}: {done:#?}");
        }
    }
}

#[test]
fn a_missing_step_function_is_reported_with_a_suggestion() {
    let program = python_program("ticks.py");
    for python in pythons() {
        let python = python.text();
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
            (
                "ticks_model:Model.uncalled",
                "the function exists, but its Python code was not called",
            ),
            ("ticks_model:Model", "Model is a class; give the name of a method"),
            ("nomod:step", "no module `nomod` was imported; imported modules are __main__"),
        ] {
            let workspace = Workspace::new();
            let (done, timeline) =
                run(&workspace, &spec(&[python, &program, "plain", "3"], Some(step)));
            assert_eq!(timeline["steps"], 0, "{python} {step}: {done:#?}");
            done.assert_reports(&["target.step", step, words]);
        }
    }
}

#[test]
fn overlapping_steps_are_separate_steps() {
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
    for python in pythons() {
        let python = python.text();
        for step in ["__main__:Agent.step", "__main__:Agent.turns"] {
            let workspace = Workspace::new();
            let program = workspace.write("overlap.py", text);
            let command = [python, &program];
            let (done, timeline) = run(&workspace, &spec(&command, Some(step)));
            assert_eq!(timeline["steps"], 20, "{python} {step}: {done:#?}");
        }
    }
}

#[test]
fn objects_alive_at_the_end_are_finalised_as_usual() {
    let text = "\
import posix
class Resource:
    def __del__(self, make=posix.mkdir): make('deleted')
class World:
    def step(self): pass
resource, world = Resource(), World()
for _ in range(25): world.step()
";
    for python in pythons() {
        let workspace = Workspace::new();
        let program = workspace.write("ends.py", text);
        let python = python.text();
        let command = [python, &program];
        let (done, timeline) = run(&workspace, &spec(&command, Some("__main__:World.step")));
        assert_eq!(timeline["steps"], STEPS, "{python}: {done:#?}");
        assert!(workspace.path("deleted").exists(), "{python}: {done:#?}");
    }
}

#[test]
fn a_recursive_step_keeps_its_recursion_limit() {
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
    for python in pythons() {
        let python = python.text();
        for step in ["__main__:Model.dig", "__main__:Model.sign"] {
            let workspace = Workspace::new();
            let program = workspace.write("deep.py", text);
            let command = [python, &program];
            let (done, timeline) = run(&workspace, &spec(&command, Some(step)));
            assert_eq!(timeline["steps"], STEPS, "{python} {step}: {done:#?}");
        }
    }
}

#[test]
fn a_step_function_of_a_program_without_python_is_reported() {
    let workspace = Workspace::new();
    let (done, _) = run(&workspace, &spec(&["true"], Some("sim:step")));
    done.assert_reports(&["target.step", "sim:step", "ran no Python"]);
}

#[test]
fn step_functions_of_other_languages_are_refused_with_the_fix() {
    let workspace = Workspace::new();
    workspace.write("simprof.toml", &spec(&["true"], Some("world::Model::step")));
    let done = workspace.simprof(&["run", "--quick"]);
    done.assert_status(2);
    done.assert_reports(&["target.step", "world::Model::step", "package.module:Class.step"]);
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
    for python in installed_pythons() {
        let python = python.text();
        let workspace = Workspace::new();
        let program = workspace.write("marks.py", program);
        let spec = spec(&[python, &program, "recorded"], None);
        let (done, timeline) =
            run(&workspace, &format!("{spec}environment = {{ PYTHONPATH = {module:?} }}\n"));
        assert_eq!(timeline["steps"], 41, "{python}: {done:#?}");
        let mut alone = workspace.program(python, &[&program, "alone"]);
        alone.env("PYTHONPATH", module);
        workspace.done(alone).assert_status(0);
    }
}
