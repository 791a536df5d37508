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
    run_to(workspace, spec, 0)
}

/// Like [`run`], with the exit status.
fn run_to(workspace: &Workspace, spec: &str, status: i32) -> (Done, Value) {
    workspace.write("simprof.toml", spec);
    let done = workspace.simprof(&["run", "--quick", "--phase", "4"]);
    done.assert_status(status);
    (done, workspace.json("phase4/phase4_summary.json")["timeline"].clone())
}

/// Returns the ids of the notices of phase 4.
fn notices(workspace: &Workspace) -> Vec<String> {
    let summary = workspace.json("phase4/phase4_summary.json");
    let notices = summary["notices"].as_array().expect("a list");
    notices.iter().map(|notice| notice["id"].as_str().expect("an id").to_owned()).collect()
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
            let notices = notices(&workspace);
            assert!(!notices.iter().any(|id| id == "step_function_not_called"), "{notices:?}");
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
                run_to(&workspace, &spec(&[python, &program, "plain", "3"], Some(step)), 1);
            assert_eq!(timeline["steps"], 0, "{python} {step}: {done:#?}");
            done.assert_reports(&["target.step", step, words]);
        }
    }
}

#[test]
fn calls_that_begin_or_end_steps_delimit_the_whole_loop() {
    let text = "\
import time
class Model:
    def act(self):
        time.sleep(0.004)
    def update(self, depth=2):
        return depth and self.update(depth - 1)
    def turns(self):
        yield 1
    def fails(self):
        raise KeyError
    async def waits(self): pass
model = Model()
for _ in range(25):
    model.act()
    model.update()
    list(model.turns())
    try: model.fails()
    except KeyError: pass
    try: model.waits().send(None)
    except StopIteration: pass
";
    for python in pythons() {
        for (step, steps, covers_little) in [
            ("'__main__:Model.update'".to_owned(), STEPS, true),
            ("'__main__:Model.act'".to_owned(), STEPS, false),
            ("{ begin = '__main__:Model.act' }".to_owned(), STEPS - 1, false),
            ("{ end = '__main__:Model.update' }".to_owned(), STEPS - 1, false),
            ("{ begin = '__main__:Model.turns' }".to_owned(), STEPS - 1, false),
            ("{ end = '__main__:Model.fails' }".to_owned(), STEPS - 1, false),
            ("{ end = '__main__:Model.waits' }".to_owned(), STEPS - 1, false),
        ] {
            let workspace = Workspace::new();
            let program = workspace.write("loop.py", text);
            let python = python.text();
            let spec = format!("{}step = {step}\n", spec(&[python, &program], None));
            let (done, timeline) = run(&workspace, &spec);
            assert_eq!(timeline["steps"], steps, "{python} {step}: {done:#?}");
            let notices = notices(&workspace);
            let found = notices.iter().any(|id| id == "steps_cover_little");
            assert_eq!(found, covers_little, "{python} {step}: {notices:?}");
            assert_eq!(done.stderr.contains("{ end = "), covers_little, "{step}: {done:#?}");
        }
    }
}

#[test]
fn a_function_is_found_wherever_it_is_defined_and_nothing_is_traced() {
    let untraced = "assert sys.gettrace() is None and sys.getprofile() is None";
    let again = format!(
        "import sys
def other(): {untraced}
for _ in range(100): other()
{untraced}
def step(): return 1
for _ in range(10): step()
def run():
    {untraced}
    step()
def step(): return 2
for _ in range(15): run()
"
    );
    let late = "def outer():
    for _ in range(15): step()
def step(): pass
for _ in range(10): step()
outer()
";
    let nested = format!(
        "import functools, sys
{untraced}
def traced(function):
    @functools.wraps(function)
    def call(*arguments): return function(*arguments)
    return call
try:
    import nothing_of_this_name
except ImportError:
    class Model:
        @traced
        def step(self): return '\\d'
for _ in range(25): Model().step()
"
    );
    for python in pythons() {
        let python = python.text();
        let workspace = Workspace::new();
        let again = workspace.write("again.py", &again);
        let nested = workspace.write("nested.py", &nested);
        workspace.write("late.py", late);
        let user = workspace.write("user.py", "import sys\nimport late\n");
        let code = "def step(): pass\nfor _ in range(25): step()";
        for (command, step) in [
            (&[python, &again][..], "__main__:step"),
            (&[python, "-c", code], "__main__:step"),
            (&[python, &nested], "nested:Model.step"),
            (&[python, &user], "late:step"),
        ] {
            let (done, timeline) = run(&workspace, &spec(command, Some(step)));
            assert_eq!(timeline["steps"], STEPS, "{command:?} {step}: {done:#?}");
        }
    }
}

#[test]
fn printed_steps_are_timed_on_a_terminal() {
    let workspace = Workspace::new();
    let text = "\
import time
for step in range(25):
    time.sleep(0.003)
    print('step', step)
";
    let program = workspace.write("prints.py", text);
    // The variables of Python are ignored, because one of them makes Python flush.
    let command = spec(&[simprof_testkit::python().text(), "-E", &program], None);
    for (terminal, steps) in [("", 0), ("terminal = true\n", STEPS - 1)] {
        let spec = format!("{command}step = {{ output = '^step' }}\n{terminal}");
        let (done, timeline) = run(&workspace, &spec);
        assert_eq!(timeline["steps"], steps, "{done:#?}");
        let untimed = notices(&workspace).iter().any(|id| id == "step_output_buffered");
        assert_eq!(untimed, steps == 0, "{done:#?}");
        assert_eq!(done.stderr.contains("terminal = true"), untimed, "{done:#?}");
    }
}

#[test]
fn one_call_does_not_make_a_step_between_calls() {
    for python in pythons() {
        let workspace = Workspace::new();
        let program = workspace.write("once.py", "def step(): pass\nstep()\n");
        let command = spec(&[python.text(), &program], None);
        let (_, timeline) =
            run(&workspace, &format!("{command}step = {{ begin = '__main__:step' }}\n"));
        assert_eq!(timeline["steps"], 0);
        assert!(notices(&workspace).iter().any(|id| id == "step_seen_once"));
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
    let (done, _) = run_to(&workspace, &spec(&["true"], Some("sim:step")), 1);
    done.assert_reports(&["target.step", "sim:step", "ran no Python", "simprof_probe.h"]);
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
