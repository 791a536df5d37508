#!/usr/bin/env python3
"""Puts together CPython interpreters that the machine has not, from published packages, for the tests.

    tests/interpreters.py FOLDER

prints the paths of the interpreters, one a line. The executables and their modules come from wheels of `freeze-core`, the
standard library from the npm package `pyodide`. What cannot be had is left out, and said on standard error. They differ from
an installed Python: no `site`, no `PYTHON*` variables, and the outermost frame is `run` of `__startup__.py`.
"""

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# Version, ABI, and the version of `pyodide` with its standard library.
KINDS = [
    ("3.12", "cp312", "0.27.7"),
    ("3.13", "cp313", "0.29.4"),
    ("3.13", "cp313t", "0.29.4"),
    ("3.14", "cp314", "314.0.7"),
    ("3.14", "cp314t", "314.0.7"),
]
WHEEL = "freeze-core==0.6.1"
STARTUP = '''"""Runs a file, -c TEXT or -m MODULE, as Python's own command line does."""

import sys


def init():
    pass


def run():
    arguments = sys.argv[1:]
    while arguments and arguments[0] in ("-u", "-E", "-I", "-S", "-B"):
        arguments.pop(0)
    if not arguments:
        sys.exit("a file, -c or -m is needed")
    import __main__

    names = __main__.__dict__
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), names)
    elif arguments[0] == "-m":
        import runpy

        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] in ("-V", "--version"):
        print("Python " + sys.version.split()[0])
    else:
        sys.argv = arguments
        sys.path.insert(0, arguments[0].rpartition("/")[0] or ".")
        names["__file__"] = arguments[0]
        with open(arguments[0], "rb") as file:
            text = file.read()
        exec(compile(text, arguments[0], "exec"), names)
'''


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for version, abi, stdlib in KINDS:
        python = folder / abi / "bin" / f"python{version}"
        try:
            if not python.exists():
                assemble(folder / abi, python, version, abi, stdlib)
            print(python)
        except (OSError, subprocess.SubprocessError, LookupError) as error:
            print(f"interpreters: no {abi}: {error}", file=sys.stderr)


def assemble(place, python, version, abi, stdlib):
    shutil.rmtree(place, ignore_errors=True)
    library = python.parent / "lib"
    library.mkdir(parents=True)
    wheel = download(place, version, abi)
    with zipfile.ZipFile(wheel) as files:
        files.extractall(place / "wheel")
    with zipfile.ZipFile(standard_library(place.parent, stdlib)) as files:
        files.extractall(library)
    parts = place / "wheel/freeze_core"
    for module in (parts / "lib").glob("*.so"):
        shutil.copy(module, library)
    shutil.copytree(place / "wheel/freeze_core.libs", place / "freeze_core.libs")
    (library / "__startup__.py").write_text(STARTUP)
    shutil.rmtree(place / "wheel" / "freeze_core.libs")
    # Last, since its being there tells that all is.
    shutil.move(next((parts / "bases").glob("console-cpython-*")), python)
    python.chmod(0o755)
    shutil.rmtree(place / "wheel")
    run([python, "-c", "import threading"])


def download(place, version, abi):
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--implementation", "cp"]
    platforms = ["--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"]
    run([sys.executable, "-m", "pip", "download", *options, "--python-version", version, "--abi", abi, *platforms,
         "--dest", place, WHEEL])
    return next(place.glob("*.whl"))


def standard_library(folder, version):
    kept = folder / f"stdlib-{version}.zip"
    if not kept.exists():
        package = run(["npm", "pack", "--silent", f"pyodide@{version}"], cwd=folder).strip().splitlines()[-1]
        with tarfile.open(folder / package) as files:
            content = files.extractfile("package/python_stdlib.zip").read()
        (folder / package).unlink()
        zipfile.ZipFile(io.BytesIO(content)).testzip()
        kept.write_bytes(content)
    return kept


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **options)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it failed"]
        raise OSError(f"{command[0]}: {last[0]}")
    return done.stdout


main()
