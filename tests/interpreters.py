#!/usr/bin/env python3
"""Assembles CPython interpreters from published packages, for tests of versions that the machine does not have.

    tests/interpreters.py FOLDER

Prints the paths of the interpreters, one per line. The executables and their modules come from wheels of `freeze-core`, the
standard library from the npm package `pyodide`. An interpreter that cannot be assembled is skipped and reported on standard
error. Assembled interpreters differ from an installed Python: they have no `site`, ignore `PYTHON*` variables, and their
outermost frame is `run` of `__startup__.py`.
"""

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# Version, ABI, and the version of `pyodide` that contains the standard library.
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
        sys.exit("usage: FILE, -c TEXT or -m MODULE")
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


def assemble(home, python, version, abi, stdlib):
    shutil.rmtree(home, ignore_errors=True)
    library = python.parent / "lib"
    library.mkdir(parents=True)
    wheel = download(home, version, abi)
    with zipfile.ZipFile(wheel) as files:
        files.extractall(home / "wheel")
    with zipfile.ZipFile(standard_library(home.parent, stdlib)) as files:
        files.extractall(library)
    parts = home / "wheel/freeze_core"
    for module in (parts / "lib").glob("*.so"):
        shutil.copy(module, library)
    shutil.copytree(home / "wheel/freeze_core.libs", home / "freeze_core.libs")
    (library / "__startup__.py").write_text(STARTUP)
    shutil.rmtree(home / "wheel" / "freeze_core.libs")
    # The executable is moved last, because its presence marks a complete interpreter.
    shutil.move(next((parts / "bases").glob("console-cpython-*")), python)
    python.chmod(0o755)
    shutil.rmtree(home / "wheel")
    run([python, "-c", "import threading"])


def download(home, version, abi):
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--implementation", "cp"]
    platforms = ["--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"]
    run([sys.executable, "-m", "pip", "download", *options, "--python-version", version, "--abi", abi, *platforms,
         "--dest", home, WHEEL])
    return next(home.glob("*.whl"))


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
