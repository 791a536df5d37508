# Writes into the folder that simprof reads afterwards. Comes before the other texts, with FOLDER set. The file `ran` tells that
# Python ran at all.
import posix


def write(name, content):
    """Writes a file of the folder, whole or not at all."""
    draft = f"{FOLDER}/.{name}"
    descriptor = posix.open(draft, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    try:
        while content:
            content = content[posix.write(descriptor, content) :]
    finally:
        posix.close(descriptor)
    posix.rename(draft, f"{FOLDER}/{name}")


write("ran", b"")
