//! The preload libraries as files that every process of a target can load, even after it changed its user.
//!
//! If a process cannot read a file of `LD_PRELOAD`, the loader prints an error on the target's standard error. A process
//! may change its user before it starts others, and those cannot open a descriptor of this process. The library is
//! therefore a file that every user may read, in a new temporary folder that is removed at the end. If no temporary folder
//! is usable (it is full, mounted without execution, or private), the library is a file in memory.
//!
//! The folder is locked while it is in use, so that the next run can recognise and remove the folder of a killed run.

use std::ffi::{CStr, OsStr};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use simprof_preload::{HEAP_LIBRARY, LIBRARY};

/// The content of a preload library, and its names as a file.
#[derive(Debug)]
pub struct Image {
    /// Name of the file in a folder.
    file_name: &'static str,
    /// Name of the file in memory, as /proc/PID/maps shows it.
    memory_name: &'static CStr,
    content: &'static [u8],
}

impl Image {
    /// Returns whether `path`, as /proc/PID/maps shows it, is this library, of this or another run, removed or not.
    pub fn is_mapped_as(&self, path: &str) -> bool {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        let memory_name = name.strip_prefix("memfd:").map(str::as_bytes);
        name == self.file_name || memory_name == Some(self.memory_name.to_bytes())
    }
}

/// The library that records Python frames and waits.
pub const PRELOAD: Image =
    Image { file_name: "libsimprof_preload.so", memory_name: c"simprof-preload", content: LIBRARY };
/// The library that records allocations.
pub const HEAP: Image = Image {
    file_name: "libsimprof_heap.so",
    memory_name: c"simprof-heap-library",
    content: HEAP_LIBRARY,
};
/// Path of [`PRELOAD`] in /proc/PID/maps if it is a file in memory.
const MEMORY_PATH: &str = "/memfd:simprof-preload";
/// Prefix of the names of the temporary folders.
const FOLDER_PREFIX: &str = "simprof-preload-";
/// Where temporary folders are created, after the one that the environment names.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// How many names for a folder are tried.
const ATTEMPTS: u32 = 16;

/// A library as a file that exists as long as the value.
#[derive(Debug)]
pub enum Library {
    /// A file in a temporary folder.
    File(Folder),
    /// A file in memory.
    Memory(OwnedFd),
}

/// A folder that contains only the library. Dropping the value removes it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file_name: &'static str,
    /// The folder itself, opened and locked.
    _lock: File,
}

impl Library {
    /// Creates the file.
    ///
    /// # Errors
    /// Returns an error if not even a file in memory can be created.
    pub fn create(image: &Image) -> io::Result<Self> {
        let temporary = std::env::temp_dir();
        let bases = || [temporary.as_path()].into_iter().chain(TEMPORARY.map(Path::new));
        // Once per process: these folders may have many files, and a process records many runs.
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| bases().for_each(sweep));
        Self::create_below(image, bases())
    }

    /// Creates the file below the first usable folder, or in memory if there is none.
    fn create_below<'a>(
        image: &Image,
        bases: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<Self> {
        let usable = bases.into_iter().filter_map(open_to_all);
        let made = usable.filter_map(|base| Folder::create(image, &base).ok()).next();
        made.map_or_else(|| in_memory(image).map(Self::Memory), |folder| Ok(Self::File(folder)))
    }

    /// Returns the path by which a process opens it.
    pub fn path(&self) -> String {
        match self {
            Self::File(folder) => folder.file().to_string_lossy().into_owned(),
            Self::Memory(fd) => super::path_of(fd.as_raw_fd()),
        }
    }
}

/// Returns whether `path`, as /proc/PID/maps shows it, is [`PRELOAD`], of this or another run.
pub fn is_mapped_from(path: &str) -> bool {
    is_file(&PRELOAD, path) || path == MEMORY_PATH
}

/// Returns whether a path is one of the preload libraries, of this or another run.
pub fn is_simprofs(path: &str) -> bool {
    [PRELOAD, HEAP].iter().any(|image| is_file(image, path))
}

fn is_file(image: &Image, path: &str) -> bool {
    let mut parts = path.rsplit('/');
    parts.next() == Some(image.file_name)
        && parts.next().is_some_and(|folder| folder.starts_with(FOLDER_PREFIX))
}

impl Folder {
    fn create(image: &Image, base: &Path) -> io::Result<Self> {
        let folder = Self::create_empty(image, base)?;
        let file = folder.file();
        let mut writer = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&file)?;
        writer.write_all(image.content)?;
        drop(writer);
        // Set the modes explicitly, since the umask may have removed bits.
        fs::set_permissions(&folder.path, Permissions::from_mode(0o755))?;
        fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        try_to_execute(&file, image.content.len())?;
        Ok(folder)
    }

    /// Creates a folder and locks it.
    fn create_empty(image: &Image, base: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..ATTEMPTS {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("{FOLDER_PREFIX}{}-{count}", std::process::id()));
            match DirBuilder::new().mode(0o755).create(&path) {
                // Left by an earlier process with the same id, or made by one in another process namespace.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result?,
            }
            if let Some(lock) = locked(&path) {
                return Ok(Self { path, file_name: image.file_name, _lock: lock });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn file(&self) -> PathBuf {
        self.path.join(self.file_name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If this fails, the next run removes the folder.
        let _ = fs::remove_file(self.file());
        let _ = fs::remove_dir(&self.path);
    }
}

/// Opens and locks a new folder. Returns `None` if another run has already removed it as left over.
fn locked(path: &Path) -> Option<File> {
    let folder = File::open(path).ok()?;
    // If the file system has no locks, no run can remove the folder, since that needs a lock.
    if matches!(folder.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) {
        return None;
    }
    let inode = folder.metadata().ok()?.ino();
    fs::metadata(path).is_ok_and(|there| there.ino() == inode).then_some(folder)
}

/// Removes the folders that killed runs of this user left.
fn sweep(base: &Path) {
    let has_prefix =
        |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(FOLDER_PREFIX));
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if has_prefix(&entry.file_name()) {
            // This fails if the folder is another user's or in use.
            let _ = remove_unused(&entry.path());
        }
    }
}

fn remove_unused(path: &Path) -> io::Result<()> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // SAFETY: geteuid has no preconditions.
    if folder.metadata()?.uid() != unsafe { libc::geteuid() } {
        return Ok(());
    }
    folder.try_lock()?;
    for image in [&PRELOAD, &HEAP] {
        let _ = fs::remove_file(path.join(image.file_name));
    }
    fs::remove_dir(path)
}

/// Returns the real path of a folder if all users can open files in it by name, and no user can rename those of another one.
/// Returns `None` otherwise, or if the path contains characters that separate paths in `LD_PRELOAD`.
fn open_to_all(base: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(base).ok()?;
    let text = real.to_str()?;
    if text.contains(|letter: char| letter.is_whitespace() || matches!(letter, ':' | '$')) {
        return None;
    }
    let mode = |path: &Path| fs::metadata(path).map_or(0, |folder| folder.mode());
    let is_reachable = real.ancestors().all(|folder| mode(folder) & 0o001 != 0);
    let is_unprotected = mode(&real) & 0o022 != 0 && mode(&real) & 0o1000 == 0;
    (is_reachable && !is_unprotected).then_some(real)
}

/// Maps the file as the loader does, since the file system may be mounted without execution.
fn try_to_execute(path: &Path, length: usize) -> io::Result<()> {
    let file = File::open(path)?;
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let fd = file.as_raw_fd();
    // SAFETY: this creates a new mapping, replaces none, and unmaps it unused.
    unsafe {
        let mapped = libc::mmap(ptr::null_mut(), length, protection, libc::MAP_PRIVATE, fd, 0);
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::munmap(mapped, length);
    }
    Ok(())
}

/// Creates a library as an executable file in memory.
fn in_memory(image: &Image) -> io::Result<OwnedFd> {
    let name = image.memory_name;
    let fd = match super::memory_file(name, libc::MFD_CLOEXEC | libc::MFD_EXEC) {
        // Kernels before 6.3 do not have the flag. There, every file in memory may be executed.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            super::memory_file(name, libc::MFD_CLOEXEC)?
        }
        result => result?,
    };
    let mut file = File::from(fd);
    file.write_all(image.content)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a folder with this mode in /tmp, which every user can enter.
    fn base(mode: u32) -> tempfile::TempDir {
        let base = tempfile::tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(base.path(), Permissions::from_mode(mode)).expect("the folder is ours");
        base
    }

    fn names(base: &Path) -> Vec<String> {
        let entries = fs::read_dir(base).expect("there").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn every_user_can_read_it_until_it_is_dropped() {
        let base = base(0o755);
        let libraries =
            [(); 2].map(|()| Library::create_below(&PRELOAD, [base.path()]).expect("it is made"));
        assert_ne!(libraries[0].path(), libraries[1].path());
        for library in &libraries {
            let path = library.path();
            assert!(Path::new(&path).starts_with(base.path()) && is_mapped_from(&path), "{path}");
            assert_eq!(fs::read(&path).expect("readable"), LIBRARY);
            let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
            let folder = Path::new(&path).parent().expect("a folder");
            assert_eq!((mode(Path::new(&path)), mode(folder)), (0o755, 0o755));
        }
        drop(libraries);
        assert!(names(base.path()).is_empty(), "{:?}", names(base.path()));
    }

    #[test]
    fn only_folders_of_killed_runs_are_removed() {
        let base = base(0o755);
        let used = Folder::create(&PRELOAD, base.path()).expect("made");
        let dead = Folder::create(&HEAP, base.path()).expect("made");
        let dead_path = dead.path.clone();
        // A killed process leaves its folder, without a lock.
        let Folder { _lock, .. } = &dead;
        _lock.unlock().expect("it was locked");
        std::mem::forget(dead);
        fs::create_dir(base.path().join("simprof-preload-x")).expect("made");
        fs::write(base.path().join("simprof-preload-x/else"), "").expect("written");
        std::os::unix::fs::symlink("/", base.path().join("simprof-preload-y")).expect("made");
        fs::create_dir(base.path().join("other")).expect("made");
        assert!(dead_path.exists());
        sweep(base.path());
        assert!(!dead_path.exists() && used.file().exists());
        assert_eq!(names(base.path()).len(), 4, "{:?}", names(base.path()));
    }

    #[test]
    fn it_is_in_memory_if_no_folder_is_usable() {
        let private = base(0o700);
        let (inner, shared) = (private.path().join("inner"), base(0o777));
        let spaced = shared.path().join("a b");
        for folder in [&inner, &spaced] {
            fs::create_dir(folder).expect("made");
        }
        let missing = private.path().join("missing");
        for base in [private.path(), &inner, &spaced, shared.path(), &missing, Path::new("/proc")] {
            let library = Library::create_below(&PRELOAD, [base]).expect("there is memory");
            let Library::Memory(_) = &library else { panic!("{base:?}: {library:?}") };
            assert_eq!(fs::read(library.path()).expect("readable"), LIBRARY);
        }
        assert!(!is_mapped_from("/proc/1/fd/2") && is_mapped_from(MEMORY_PATH));
        assert!(!is_mapped_from("/tmp/libsimprof_preload.so"));
    }
}
