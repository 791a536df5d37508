//! Derives what a thread waits for from the functions on its stack.

use simprof_model::WaitCause;
use simprof_model::WaitCause::{Child, Events, Io, Lock, Sleep, Synchronisation};

/// Kernel functions that wait, by the start of their names. The first row that matches a function decides, so a special name
/// precedes a general one.
const KERNEL: [(&str, WaitCause); 57] = [
    ("futex_", Synchronisation),
    ("__futex_", Synchronisation),
    ("do_futex", Synchronisation),
    ("do_semtimedop", Synchronisation),
    ("__do_semtimedop", Synchronisation),
    ("hrtimer_nanosleep", Sleep),
    ("do_nanosleep", Sleep),
    ("common_nsleep", Sleep),
    ("ep_poll", Events),
    ("do_epoll_wait", Events),
    ("do_sys_poll", Events),
    ("do_poll", Events),
    ("do_select", Events),
    ("core_sys_select", Events),
    ("io_cqring_wait", Events),
    ("read_events", Events),
    ("do_io_getevents", Events),
    ("do_sigtimedwait", Events),
    ("do_rt_sigtimedwait", Events),
    ("sigsuspend", Events),
    ("__x64_sys_pause", Events),
    ("eventfd_read", Events),
    ("timerfd_read", Events),
    ("wq_sleep", Events),
    ("do_mq_timedreceive", Events),
    ("do_msgrcv", Events),
    ("do_wait", Child),
    ("kernel_wait4", Child),
    ("kernel_waitid", Child),
    ("flock_lock", Lock),
    ("__flock", Lock),
    ("fcntl_setlk", Lock),
    ("do_lock_file_wait", Lock),
    ("locks_lock", Lock),
    ("io_schedule", Io),
    ("pipe_", Io),
    ("anon_pipe_", Io),
    ("fifo_open", Io),
    ("sock_", Io),
    ("__sys_accept", Io),
    ("__sys_connect", Io),
    ("unix_stream_", Io),
    ("inet_", Io),
    ("tcp_", Io),
    ("udp_", Io),
    ("n_tty_", Io),
    ("do_fsync", Io),
    ("vfs_fsync", Io),
    ("ksys_sync", Io),
    ("folio_wait", Io),
    ("submit_bio_wait", Io),
    ("blk_", Io),
    ("jbd2_", Io),
    ("vfs_read", Io),
    ("vfs_write", Io),
    ("vfs_iter", Io),
    ("do_sys_open", Io),
];

/// Functions of libraries that wait, by the start of their names without underscores. They decide if the kernel's names are hidden.
const USER: [(&str, WaitCause); 30] = [
    ("pthread_", Synchronisation),
    ("futex", Synchronisation),
    ("lll_lock", Synchronisation),
    ("sem_", Synchronisation),
    ("nanosleep", Sleep),
    ("clock_nanosleep", Sleep),
    ("usleep", Sleep),
    ("sleep", Sleep),
    ("poll", Events),
    ("ppoll", Events),
    ("select", Events),
    ("pselect", Events),
    ("epoll_", Events),
    ("sigwait", Events),
    ("pause", Events),
    ("wait", Child),
    ("read", Io),
    ("write", Io),
    ("pread", Io),
    ("pwrite", Io),
    ("recv", Io),
    ("send", Io),
    ("accept", Io),
    ("connect", Io),
    ("libc_read", Io),
    ("libc_write", Io),
    ("fsync", Io),
    ("fdatasync", Io),
    ("sync", Io),
    ("open", Io),
];

/// Returns what a thread waits for. The names of its functions are given leaf first.
pub(super) fn wait_cause<'a>(
    kernel: impl IntoIterator<Item = &'a str>,
    user: impl IntoIterator<Item = &'a str>,
) -> WaitCause {
    let known = |table: &[(&str, WaitCause)], name: &str| {
        let row = table.iter().find(|(start, _)| name.starts_with(start));
        row.map(|&(_, cause)| cause)
    };
    let by_kernel = kernel.into_iter().find_map(|name| known(&KERNEL, name));
    let by_user = || {
        let leaf = user.into_iter().take(USER_FRAMES);
        leaf.filter_map(|name| known(&USER, name.trim_start_matches('_'))).next()
    };
    by_kernel.or_else(by_user).unwrap_or(WaitCause::Other)
}

/// How many user frames from the leaf may be the C library's.
const USER_FRAMES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_functions_decide_and_else_those_of_the_c_library() {
        let futex = ["__schedule", "schedule", "futex_do_wait", "__futex_wait", "do_futex"];
        let fsync = ["__schedule", "io_schedule", "folio_wait_bit_common", "ext4_sync_file"];
        let table: [(&[&str], &[&str], WaitCause); 9] = [
            (&futex, &["?", "pthread_mutex_lock", "critical"], Synchronisation),
            (&["schedule", "do_nanosleep", "hrtimer_nanosleep"], &["clock_nanosleep"], Sleep),
            (&fsync, &["fdatasync", "save"], Io),
            (&["schedule", "pipe_read", "vfs_read"], &["read"], Io),
            (&["schedule", "do_wait", "kernel_wait4"], &["wait4"], Child),
            (&["schedule", "rwsem_down_read_slowpath"], &["work"], WaitCause::Other),
            (&[], &["libc.so.6+0x1", "__lll_lock_wait", "f"], Synchronisation),
            (&["[kernel]+0x1"], &["__GI___clock_nanosleep", "clock_nanosleep"], Sleep),
            (&[], &["a", "b", "c", "d", "read"], WaitCause::Other),
        ];
        for (kernel, user, expected) in table {
            let found = wait_cause(kernel.iter().copied(), user.iter().copied());
            assert_eq!(found, expected, "{kernel:?}, {user:?}");
        }
    }
}
