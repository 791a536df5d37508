//! Reads source files, also those in zip archives: Python imports modules from archives without unpacking them.
//!
//! The path of a file in an archive continues the path of the archive: `/w/app.pyz/sim/model.py`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};

/// Returns the text of a source file. `None` if it cannot be read or has more than `limit` bytes. Invalid characters become
/// replacement characters.
pub fn read(path: &Path, limit: u64) -> Option<String> {
    let bytes = match archive(path) {
        Some(archive) => read_member(archive, path.strip_prefix(archive).ok()?, limit)?,
        None => {
            let metadata = path.metadata().ok()?;
            if !metadata.is_file() {
                return None;
            }
            bounded(File::open(path).ok()?, limit)?
        }
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the archive that contains a file: the ancestor of its path that is not a folder. `None` for files in folders and for files
/// that do not exist.
pub fn archive(path: &Path) -> Option<&Path> {
    // The root is a folder, so the first existing ancestor decides.
    let exists = path.ancestors().skip(1).find_map(|part| Some((part, part.metadata().ok()?)));
    exists.filter(|(_, metadata)| metadata.is_file()).map(|(part, _)| part)
}

/// Returns whether the path is of a file that exists, perhaps in an archive.
pub fn exists(path: &Path) -> bool {
    path.is_file() || archive(path).is_some()
}

/// Returns whether a folder is a package of Python modules. In an archive all folders are: they may be namespace packages.
pub fn is_package(folder: &Path) -> bool {
    let file = folder.join("__init__.py");
    file.is_file() || archive(&file).is_some_and(|archive| archive != folder)
}

/// Reads one file of an archive.
fn read_member(archive: &Path, name: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(File::open(archive).ok()?, &mut buffer).ok()?;
    let mut entries = archive.entries(&mut buffer);
    let name: PathBuf = name.components().collect();
    loop {
        let entry = entries.next_entry().ok()??;
        if entry.file_path().as_ref() != name.as_os_str().as_encoded_bytes() {
            continue;
        }
        let method = entry.compression_method();
        let data = archive.get_entry(entry.wayfinder()).ok()?.reader();
        return match method {
            CompressionMethod::STORE => bounded(data, limit),
            CompressionMethod::DEFLATE => bounded(DeflateDecoder::new(data), limit),
            _ => None,
        };
    }
}

/// Reads to the end. `None` if there are more than `limit` bytes, whatever the size that a file states.
fn bounded(reader: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMIT: u64 = 10_000;

    /// Creates an archive after a line that starts an interpreter, as `zipapp` does.
    fn create(path: &Path, files: &[(&str, &str)], method: CompressionMethod) {
        let mut output = File::create(path).expect("created");
        output.write_all(b"#!/usr/bin/env python3\n").expect("written");
        let mut archive = rawzip::ZipArchiveWriter::builder().with_offset(23).build(&mut output);
        for (name, content) in files {
            let (mut entry, config) =
                archive.new_file(name).compression_method(method).start().expect("started");
            let descriptor = if method == CompressionMethod::STORE {
                let mut writer = config.wrap(&mut entry);
                writer.write_all(content.as_bytes()).expect("written");
                writer.finish().expect("finished").1
            } else {
                let encoder =
                    flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
                let mut writer = config.wrap(encoder);
                writer.write_all(content.as_bytes()).expect("written");
                let (encoder, descriptor) = writer.finish().expect("finished");
                encoder.finish().expect("finished");
                descriptor
            };
            entry.finish(descriptor).expect("finished");
        }
        archive.finish().expect("finished");
    }

    #[test]
    fn files_in_archives_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, method) in
            [("app.pyz", CompressionMethod::DEFLATE), ("app", CompressionMethod::STORE)]
        {
            let path = folder.path().join(name);
            let large = "x".repeat(LIMIT as usize + 1);
            create(&path, &[("sim/model.py", "x = 'é'\n"), ("large.py", &large)], method);
            let file = |name: &str| path.join(name);
            assert_eq!(read(&file("sim/model.py"), LIMIT).as_deref(), Some("x = 'é'\n"), "{name}");
            assert_eq!(read(&file("large.py"), LIMIT), None, "{name}");
            assert_eq!(read(&file("large.py"), LIMIT + 1), Some(large), "{name}");
            assert_eq!(read(&file("none.py"), LIMIT), None, "{name}");
            assert_eq!(archive(&file("sim/model.py")), Some(path.as_path()));
            assert!(exists(&file("sim/model.py")));
            assert!(
                is_package(&file("sim")) && is_package(&file("space/sim")) && !is_package(&path)
            );
        }
    }

    #[test]
    fn files_in_folders_and_missing_files_have_no_archive() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.py");
        std::fs::write(&file, "x = 1\n").expect("written");
        assert_eq!(read(&file, LIMIT).as_deref(), Some("x = 1\n"));
        assert_eq!(read(&file, 5), None);
        assert_eq!(archive(&file), None);
        assert!(!is_package(folder.path()) && !is_package(&folder.path().join("none")));
        std::fs::write(folder.path().join("__init__.py"), "").expect("written");
        assert!(is_package(folder.path()));
        let missing = folder.path().join("none/b.py");
        assert_eq!(
            (archive(&missing), exists(&missing), read(&missing, LIMIT)),
            (None, false, None)
        );
        let no_archive = file.join("sim/model.py");
        assert_eq!(read(&no_archive, LIMIT), None, "it is not a zip file");
        assert_eq!(read(Path::new("<string>"), LIMIT), None);
        assert_eq!(read(folder.path(), LIMIT), None);
    }
}
