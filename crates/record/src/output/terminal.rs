//! A pseudo-terminal for the target's standard output. The C library and Python flush output to a terminal after each
//! line.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Rows and columns that programs see.
static SIZE: libc::winsize = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Opens a pseudo-terminal: the reader for this process and the terminal for the target. It passes bytes on unchanged and
/// is not the controlling terminal of any process, so that it sends no signals.
pub fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the call takes no pointers.
    let reader = owned(unsafe { libc::posix_openpt(flags) })?;
    // SAFETY: the calls take no pointers; the descriptor is open.
    let terminal = unsafe {
        check(libc::grantpt(reader.as_raw_fd()))?;
        check(libc::unlockpt(reader.as_raw_fd()))?;
        // Needs no path, so it works where /dev/pts is not that of this terminal.
        owned(libc::ioctl(reader.as_raw_fd(), libc::TIOCGPTPEER, flags))?
    };
    make_raw(&terminal)?;
    // SAFETY: the size is a valid `winsize` to read.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const SIZE) })?;
    Ok((reader, terminal))
}

/// Disables echo, signals and the translation of line ends.
fn make_raw(terminal: &OwnedFd) -> io::Result<()> {
    // SAFETY: zero is a valid value of every field, and `mode` is a valid `termios` to write to and to read.
    unsafe {
        let mut mode: libc::termios = std::mem::zeroed();
        check(libc::tcgetattr(terminal.as_raw_fd(), &raw mut mode))?;
        libc::cfmakeraw(&raw mut mode);
        check(libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const mode))
    }
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the descriptor was just opened, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_pass_unchanged_and_end_with_the_last_writer() {
        let (reader, terminal) = open().expect("a terminal");
        // SAFETY: the descriptor is open.
        assert_eq!(unsafe { libc::isatty(terminal.as_raw_fd()) }, 1);
        let text = b"step 1\nto\tab\r\n\x03\x04\x11\xff\n";
        File::from(terminal).write_all(text).expect("written");
        let (mut reader, mut seen, mut chunk) = (File::from(reader), Vec::new(), [0; 64]);
        while let Ok(count) = reader.read(&mut chunk)
            && count > 0
        {
            seen.extend_from_slice(&chunk[..count]);
        }
        assert_eq!(seen, text);
    }
}
