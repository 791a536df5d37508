# Writes into the folder that simprof reads afterwards. Comes before the other texts, with FOLDER set.
import posix


def write(name, content):
    """Writes a file of the folder, whole or not at all; its name must be this process's alone."""
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


def say_that_python_ran():
    """Makes the file `ran`. All processes make the same one, so there is no draft of it that another could take away."""
    try:
        posix.close(posix.open(f"{FOLDER}/ran", posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC, 0o600))
    except OSError:
        pass  # What follows is not to fail for it.


say_that_python_ran()
