//! Folders in `target/tmp` that are filled once and shared by all test processes.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The file that marks a folder as complete.
const COMPLETE: &str = ".complete";
/// Cached folders older than this are removed when a folder of the same name is filled. A run of all tests is much shorter.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Returns the target folder that the running test was built in.
pub fn target_folder() -> PathBuf {
    let exe = std::env::current_exe().expect("a process knows its executable");
    // .../target/debug/deps/NAME
    let built_in = exe
        .ancestors()
        .find(|path| path.ends_with("deps"))
        .and_then(|deps| deps.ancestors().nth(2));
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    built_in.map(Path::to_owned).or(set).unwrap_or_else(default)
}

/// Returns the folder that contains all cached folders. Creates it if necessary.
pub fn cache_root() -> PathBuf {
    let root = target_folder().join("tmp");
    fs::create_dir_all(&root).expect("the target folder can be written");
    root.canonicalize().expect("it was just created")
}

/// Returns a folder that `fill` has filled, in this process or in an earlier one.
///
/// `key` contains everything that the content depends on. Each key has its own folder. Concurrent processes wait for the one that
/// fills the folder. If `fill` panics, the next caller fills it again.
pub fn cached_folder(name: &str, key: impl Hash, fill: impl FnOnce(&Path)) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let root = cache_root();
    let folder = root.join(format!("{name}-{:016x}", hasher.finish()));
    if folder.join(COMPLETE).exists() {
        return folder;
    }
    let lock =
        File::create(folder.with_extension("lock")).expect("the target folder can be written");
    lock.lock().expect("the file can be locked");
    if folder.join(COMPLETE).exists() {
        return folder;
    }
    remove_old(&root, name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("the target folder can be written");
    fill(&folder);
    File::create(folder.join(COMPLETE)).expect("the folder can be written");
    folder
}

/// Removes folders of the same name that are older than [`MAX_AGE`], whatever their key.
fn remove_old(root: &Path, name: &str) {
    let hash_follows = |file: &str| {
        let rest =
            file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        rest.len() >= 16 && rest[..16].bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let is_old = entry.metadata().and_then(|data| data.modified()).is_ok_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > MAX_AGE)
        });
        if is_old && hash_follows(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_folder_is_filled_once_per_key() {
        let fills = Cell::new(0);
        let fill = |folder: &Path| {
            fills.set(fills.get() + 1);
            fs::write(folder.join("content"), "x").expect("written");
        };
        let key = (std::process::id(), SystemTime::now());
        let first = cached_folder("testkit-test", (key, 1), fill);
        assert_eq!(cached_folder("testkit-test", (key, 1), fill), first);
        assert_eq!(fills.get(), 1);
        let second = cached_folder("testkit-test", (key, 2), fill);
        assert!(second != first && second.join("content").exists());
        for folder in [first, second] {
            fs::remove_dir_all(&folder).expect("removed");
            fs::remove_file(folder.with_extension("lock")).expect("removed");
        }
    }
}
