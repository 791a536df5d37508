//! The libraries as files that every process of a target can load, whatever user it becomes.
//!
//! What a process cannot read of `LD_PRELOAD` the loader complains of, in the target's name. A process may change its user
//! before it starts others, and those cannot open a descriptor of this process. So the library is a file that everybody may
//! read, in a folder of its own among the temporary ones, which is removed at the end. Where none of these will do (no room,
//! nothing may be executed there, private ones only) it is a file in memory.
//!
//! The folder is locked for as long as it is in use, so that the next run can tell, and remove, what a killed one left.

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

/// A library that is to become a file.
#[derive(Debug)]
pub struct Image {
    /// Name of the file in a folder.
    file_name: &'static str,
    /// Name of the file in memory, as the maps of a process show it.
    memory_name: &'static CStr,
    content: &'static [u8],
}

impl Image {
    /// Whether the kernel calls a mapped file as it calls this library, of this or another run, removed or not.
    pub fn is_mapped_as(&self, path: &str) -> bool {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        let memory_name = name.strip_prefix("memfd:").map(str::as_bytes);
        name == self.file_name || memory_name == Some(self.memory_name.to_bytes())
    }
}

/// The library that tells of Python.
pub const PRELOAD: Image =
    Image { file_name: "libsimprof_preload.so", memory_name: c"simprof-preload", content: LIBRARY };
/// The library that tells of allocations.
pub const HEAP: Image = Image {
    file_name: "libsimprof_heap.so",
    memory_name: c"simprof-heap-library",
    content: HEAP_LIBRARY,
};
/// What the kernel calls [`PRELOAD`] where it is mapped from memory.
const MEMORY_PATH: &str = "/memfd:simprof-preload";
/// How names of the folders begin.
const FOLDER_PREFIX: &str = "simprof-preload-";
/// Where folders are made, after the one that the environment names.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// How many names of a folder are tried.
const ATTEMPTS: u32 = 16;

/// A library, there for as long as the value lives.
#[derive(Debug)]
pub enum Library {
    /// In a folder.
    File(Folder),
    /// In memory.
    Memory(OwnedFd),
}

/// A folder with nothing but the library in it; removed with the value.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file_name: &'static str,
    /// Of the folder: locked.
    _lock: File,
}

impl Library {
    /// Makes the file.
    ///
    /// # Errors
    /// Where not even memory can be had.
    pub fn create(image: &Image) -> io::Result<Self> {
        let temporary = std::env::temp_dir();
        let bases = || [temporary.as_path()].into_iter().chain(TEMPORARY.map(Path::new));
        // These folders may have many files, and a process makes many runs.
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| bases().for_each(sweep));
        Self::create_beneath(image, bases())
    }

    /// As [`Library::create`], beneath the first of the folders that will do.
    fn create_beneath<'a>(
        image: &Image,
        bases: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<Self> {
        let usable = bases.into_iter().filter_map(open_to_all);
        let made = usable.filter_map(|base| Folder::create(image, &base).ok()).next();
        made.map_or_else(|| memory(image).map(Self::Memory), |folder| Ok(Self::File(folder)))
    }

    /// Path by which a process opens it.
    pub fn path(&self) -> String {
        match self {
            Self::File(folder) => folder.file().to_string_lossy().into_owned(),
            Self::Memory(fd) => super::path_of(fd.as_raw_fd()),
        }
    }
}

/// Whether the kernel calls a mapped file so that is [`PRELOAD`], of this or another run.
pub fn is_mapped_from(path: &str) -> bool {
    is_file(&PRELOAD, path) || path == MEMORY_PATH
}

/// Whether a file of that path is a library of this or another run.
pub fn is_ours(path: &str) -> bool {
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
        // Whatever this process's mask takes away.
        fs::set_permissions(&folder.path, Permissions::from_mode(0o755))?;
        fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        try_to_execute(&file, image.content.len())?;
        Ok(folder)
    }

    /// A new folder that is surely locked, and surely there.
    fn create_empty(image: &Image, base: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..ATTEMPTS {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("{FOLDER_PREFIX}{}-{count}", std::process::id()));
            match DirBuilder::new().mode(0o755).create(&path) {
                // In another process namespace another process has this number, or it once had it.
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
        // What cannot be removed the next run tries to.
        let _ = fs::remove_file(self.file());
        let _ = fs::remove_dir(&self.path);
    }
}

/// A new folder, locked; none where another run, which took it for a dead one's, was faster.
fn locked(path: &Path) -> Option<File> {
    let folder = File::open(path).ok()?;
    // Where a file system knows no locks, none are needed: nobody can take them to remove the folder.
    if matches!(folder.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) {
        return None;
    }
    let inode = folder.metadata().ok()?.ino();
    fs::metadata(path).is_ok_and(|there| there.ino() == inode).then_some(folder)
}

/// Removes what runs of this user left that were killed.
fn sweep(base: &Path) {
    let is_ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(FOLDER_PREFIX));
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if is_ours(&entry.file_name()) {
            // It may be another user's, or in use.
            let _ = remove_dead(&entry.path());
        }
    }
}

fn remove_dead(path: &Path) -> io::Result<()> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // SAFETY: it has no preconditions.
    if folder.metadata()?.uid() != unsafe { libc::geteuid() } {
        return Ok(());
    }
    folder.try_lock()?;
    for image in [&PRELOAD, &HEAP] {
        let _ = fs::remove_file(path.join(image.file_name));
    }
    fs::remove_dir(path)
}

/// The real path of a folder in which all users can open what they know the name of, and nobody can move what is another's. The loader
/// must take it for one path.
fn open_to_all(base: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(base).ok()?;
    let text = real.to_str()?;
    if text.contains(|letter: char| letter.is_whitespace() || matches!(letter, ':' | '$')) {
        return None;
    }
    let mode = |path: &Path| fs::metadata(path).map_or(0, |folder| folder.mode());
    let is_reachable = real.ancestors().all(|folder| mode(folder) & 0o001 != 0);
    let is_anybodys = mode(&real) & 0o022 != 0 && mode(&real) & 0o1000 == 0;
    (is_reachable && !is_anybodys).then_some(real)
}

/// Maps the file as the loader does: some file systems are mounted so that nothing in them is executed.
fn try_to_execute(path: &Path, length: usize) -> io::Result<()> {
    let file = File::open(path)?;
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let fd = file.as_raw_fd();
    // SAFETY: a new mapping, which nothing looks at.
    unsafe {
        let mapped = libc::mmap(ptr::null_mut(), length, protection, libc::MAP_PRIVATE, fd, 0);
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::munmap(mapped, length);
    }
    Ok(())
}

/// A library as a file that exists in memory only, and may be executed.
fn memory(image: &Image) -> io::Result<OwnedFd> {
    let name = image.memory_name;
    let fd = match super::memory_file(name, libc::MFD_CLOEXEC | libc::MFD_EXEC) {
        // Kernels before 6.3 do not know the flag; there, every such file may be executed.
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

    /// A folder that everybody can go through, in one that everybody can.
    fn base(mode: u32) -> tempfile::TempDir {
        let base = tempfile::tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(base.path(), Permissions::from_mode(mode)).expect("ours");
        base
    }

    fn names(base: &Path) -> Vec<String> {
        let entries = fs::read_dir(base).expect("there").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn everybody_can_read_it_as_long_as_it_is_needed() {
        let base = base(0o755);
        let libraries =
            [(); 2].map(|()| Library::create_beneath(&PRELOAD, [base.path()]).expect("it is made"));
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
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let base = base(0o755);
        let used = Folder::create(&PRELOAD, base.path()).expect("made");
        let dead = Folder::create(&HEAP, base.path()).expect("made");
        let dead_path = dead.path.clone();
        // A killed process removes nothing, but holds no lock either.
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
    fn where_it_cannot_be_a_file_for_all_it_is_in_memory() {
        let private = base(0o700);
        let (inner, shared) = (private.path().join("inner"), base(0o777));
        let spaced = shared.path().join("a b");
        for folder in [&inner, &spaced] {
            fs::create_dir(folder).expect("made");
        }
        let missing = private.path().join("missing");
        for base in [private.path(), &inner, &spaced, shared.path(), &missing, Path::new("/proc")] {
            let library = Library::create_beneath(&PRELOAD, [base]).expect("there is memory");
            let Library::Memory(_) = &library else { panic!("{base:?}: {library:?}") };
            assert_eq!(fs::read(library.path()).expect("readable"), LIBRARY);
        }
        assert!(!is_mapped_from("/proc/1/fd/2") && is_mapped_from(MEMORY_PATH));
        assert!(!is_mapped_from("/tmp/libsimprof_preload.so"));
    }
}
