# Writes files to the folder that simprof reads after the run. It precedes the other scripts. FOLDER
# is set before it.
import posix


def write(name, content):
    """Writes a file to the folder atomically. No other process may use its name."""
    draft = f"{FOLDER}/.{name}"
    descriptor = posix.open(draft, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
    finally:
        posix.close(descriptor)
    posix.rename(draft, f"{FOLDER}/{name}")


def write_all(descriptor, content):
    while content:
        content = content[posix.write(descriptor, content) :]


def note_that_python_ran():
    """Creates the file `ran`. All processes create the same file, so it is not written to a draft and renamed: another
    process could rename the draft first."""
    try:
        posix.close(posix.open(f"{FOLDER}/ran", posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC, 0o600))
    except OSError:
        pass  # The scripts that follow must run in any case.


note_that_python_ran()
