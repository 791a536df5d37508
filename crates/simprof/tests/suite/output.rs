//! Results that cannot be written because the disk is full or the folder is not writable, and closed pipes.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use simprof_testkit::{is_root, wait_for};

use crate::support::{Done, Workspace, c_program, sampling_allowed};

/// A mounted file system. It is unmounted on drop.
struct Mount(PathBuf);

impl Mount {
    /// Mounts a file system. Returns `None` and prints the reason if that is not permitted.
    fn new(at: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).expect("a folder");
        let mut command = Command::new("mount");
        let output = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(at)),
            Ok(output) => {
                eprintln!("no file system here: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                eprintln!("no file system here: mount: {error}");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A lazy unmount also works if a failed test left files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Returns the manifest in a folder of results. The file must be complete.
fn manifest(results: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(results.join("latest/run.json")).expect("a manifest");
    serde_json::from_str(&text).expect("it is complete")
}

/// Asserts that the error is printed once, with the folder and the fix.
fn assert_full(done: &Done) {
    done.assert_status(1);
    done.assert_reports(&["No space left on device", "disk/", "free some space", "--output-dir"]);
    assert_eq!(done.stderr.matches("No space left").count(), 1, "{done:#?}");
    assert!(!done.stderr.contains(".simprof-"), "no temporary name is shown: {done:#?}");
}

#[test]
fn a_disk_that_results_fill_is_reported() {
    let workspace = Workspace::new();
    let Some(disk) = Mount::new(workspace.path("disk"), "size=200k") else { return };
    if !sampling_allowed() {
        return;
    }
    let program = c_program("inlined");
    let arguments =
        ["run", "--quick", "--rate", "5000", "--phase", "1", "--output-dir", "disk", "--"];
    assert_full(&workspace.simprof(&[&arguments[..], &[&program, "100"]].concat()));
    workspace.assert_nothing_left();
    let manifest = manifest(&disk.0);
    let measurement = &manifest["phases"][0]["measurements"][0];
    assert_eq!(measurement["status"], "ok", "what was measured is kept: {manifest:#}");
    assert_ne!(manifest["status"], "ok", "{manifest:#}");
}

#[test]
fn a_disk_that_the_target_fills_is_reported() {
    let workspace = Workspace::new();
    let Some(disk) = Mount::new(workspace.path("disk"), "size=200k") else { return };
    let program = c_program("trouble");
    let arguments = ["run", "--quick", "--phase", "4", "--output-dir", "disk", "--"];
    assert_full(&workspace.simprof(&[&arguments[..], &[&program, "chatter"]].concat()));
    workspace.assert_nothing_left();
    assert_eq!(manifest(&disk.0)["schema"], "simprof.run/1");
}

#[test]
fn a_disk_that_is_full_at_the_start_is_reported() {
    let workspace = Workspace::new();
    let Some(disk) = Mount::new(workspace.path("disk"), "size=40k") else { return };
    // The write fills the disk and then fails.
    let _ = std::fs::write(disk.0.join("filler"), [0; 100_000]);
    let done = workspace.simprof(&["run", "--quick", "--output-dir", "disk", "--", "true"]);
    assert_ne!(done.status, Some(0), "{done:#?}");
    done.assert_reports(&["No space left on device", "disk", "--output-dir"]);
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
}

/// Asserts that a folder is refused in one line that names it and the fix.
fn assert_refused(workspace: &Workspace, folder: &str, why: &str) {
    let done = workspace.simprof(&["run", "--quick", "--output-dir", folder, "--", "true"]);
    done.assert_status(2);
    done.assert_reports(&["cannot write results to", folder, why, "--output-dir"]);
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
    assert_eq!(done.stderr.matches(why).count(), 1, "printed once: {done:#?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let workspace = Workspace::new();
    workspace.write("file", "");
    assert_refused(&workspace, "file", "File exists");
    assert_refused(&workspace, "/proc/simprof", "No such file or directory");
    if is_root() {
        if let Some(_mount) = Mount::new(workspace.path("fixed"), "ro") {
            assert_refused(&workspace, "fixed", "Read-only file system");
            assert_refused(&workspace, "fixed/below", "Read-only file system");
        }
    } else {
        std::fs::create_dir(workspace.path("fixed")).expect("a folder");
        let mode = |mode| {
            std::fs::set_permissions(workspace.path("fixed"), PermissionsExt::from_mode(mode))
        };
        mode(0o555).expect("chmod");
        assert_refused(&workspace, "fixed", "Permission denied");
        assert_refused(&workspace, "fixed/below", "Permission denied");
        mode(0o755).expect("chmod");
    }
}

/// Runs simprof and closes the reading end of its standard output, or of standard error if `error`. If `read`, one byte is read
/// before.
fn with_closed_pipe(
    workspace: &Workspace,
    arguments: &[&str],
    error: bool,
    read: bool,
) -> Option<i32> {
    let mut command = workspace.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    if error {
        command.stderr(writer)
    } else {
        command.stdout(writer)
    };
    let mut child = command.spawn().expect("simprof starts");
    // The command holds the writing end until it is dropped.
    drop(command);
    if read {
        reader.read_exact(&mut [0]).expect("it prints something");
    }
    drop(reader);
    wait_for("the end of simprof", || child.try_wait().expect("a child")).code()
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let workspace = Workspace::new();
    workspace.simprof(&["run", "--quick", "--phase", "4", "--", "true"]).assert_status(0);
    let run = ["run", "--quick", "--phase", "4", "--", "true"];
    let component =
        ["component", "spatial", "--operation", "build", "--entities", "50", "--budget-ms", "1"];
    for arguments in [
        &["run", "--plan"][..],
        &["status"],
        &["status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["simulate", "--steps", "2", "--agents", "3"],
        &component,
        &run,
    ] {
        for read in [false, true] {
            let status = with_closed_pipe(&workspace, arguments, false, read);
            assert_eq!(status, Some(0), "{arguments:?}, read {read}");
        }
    }
    assert_eq!(with_closed_pipe(&workspace, &run, true, false), Some(0), "the run continues");
    assert_eq!(workspace.manifest()["status"], "ok");
    let failing = ["run", "--quick", "--phase", "4", "--", "false"];
    assert_eq!(
        with_closed_pipe(&workspace, &failing, false, false),
        Some(1),
        "failures still show"
    );
    assert_eq!(with_closed_pipe(&workspace, &failing, true, false), Some(1), "failures still show");
}
