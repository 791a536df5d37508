//! The name of a target whose spec gives none.

use std::ffi::OsStr;
use std::path::Path;

use simprof_record::is_python_interpreter;

/// Options of Python that take the next argument as their value.
const WITH_VALUE: [&str; 3] = ["-W", "-X", "--check-hash-based-pycs"];

/// Returns the name of the program that a command runs: the file name of the script or the name of the module if the command
/// is a Python interpreter, else the file name of the command. `argv` is not empty.
pub fn program_name(argv: &[String]) -> String {
    let interpreted = || is_python_interpreter(Path::new(&argv[0])).then(|| script(&argv[1..]))?;
    interpreted().unwrap_or_else(|| file_name(&argv[0]))
}

/// Returns the name of what Python's arguments run; `None` for code in the arguments and for standard input.
fn script(arguments: &[String]) -> Option<String> {
    let mut arguments = arguments.iter();
    loop {
        let argument = arguments.next()?.as_str();
        match argument {
            "-c" | "-" => return None,
            "-m" => return arguments.next().cloned(),
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with('-') => {}
            script => return Some(file_name(script)),
        }
    }
}

fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap_or(OsStr::new(path));
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_called_by_its_script() {
        let cases = [
            ("./build/flock", "flock"),
            ("python3 sim.py", "sim.py"),
            ("/usr/bin/python3.12 -u -X perf -W ignore src/sim.py --agents 5", "sim.py"),
            ("python -m simulation.run -v", "simulation.run"),
            ("python -c pass", "python"),
            ("python3", "python3"),
            ("env python3 sim.py", "env"),
            ("python {script}", "{script}"),
        ];
        for (command, name) in cases {
            let argv: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(program_name(&argv), name, "{command}");
        }
    }
}
