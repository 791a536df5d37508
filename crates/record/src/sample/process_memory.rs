//! Reads the memory of a running process.

/// The memory of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessMemory {
    pub pid: u32,
}

impl ProcessMemory {
    /// Fills the start of `bytes` from an address. Returns the number of bytes read: fewer than requested if memory is not
    /// mapped there, none if the process has ended or does not permit it.
    pub fn read(self, address: u64, bytes: &mut [u8]) -> usize {
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let remote = libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(address as usize),
            iov_len: bytes.len(),
        };
        let Ok(pid) = libc::pid_t::try_from(self.pid) else { return 0 };
        // SAFETY: the local vector is exactly `bytes`, which is borrowed mutably. The remote one is only checked by the kernel.
        let count =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        usize::try_from(count).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_far_as_it_is_mapped() {
        let memory = ProcessMemory { pid: std::process::id() };
        let word = 0x1234_5678_9abc_def0_u64;
        let mut bytes = [0; 8];
        let at = (&raw const word).expose_provenance() as u64;
        assert_eq!(memory.read(at, &mut bytes), 8);
        assert_eq!(u64::from_ne_bytes(bytes), word);
        assert_eq!(memory.read(8, &mut bytes), 0);
        assert_eq!(ProcessMemory { pid: u32::MAX }.read(at, &mut bytes), 0);
    }
}
