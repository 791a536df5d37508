//! Documents agree with the repository: paths, crates, dependency rules, specs and commands exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::Workspace;

/// First components of paths that belong to a run, to the system or to a user's project.
const ELSEWHERE: [&str; 9] =
    ["", ".", "~", "profiling_results", "phaseN", "phase1", "phase2", "phase3", "phase4"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the name and text of every document.
fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
            .map(str::to_owned)
            .into();
    for folder in ["docs", "docs/internals"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the folder exists") {
            let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    let read = |name: String| {
        let text = std::fs::read_to_string(root().join(&name));
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// Returns a document's text outside of fenced blocks, and the blocks with their languages.
fn split(text: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks) = (String::new(), Vec::new());
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((language, content))) => {
                open = Some((language, format!("{content}{line}\n")));
            }
            (None, None) => prose.push_str(&format!("{line}\n")),
        }
    }
    assert!(open.is_none(), "a fenced block does not end");
    (prose, blocks)
}

fn backticked(prose: &str) -> impl Iterator<Item = &str> {
    prose.split('`').skip(1).step_by(2)
}

fn looks_like_a_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    // `simprof.run/1` is the name of a format.
    let is_version =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let format = text.rsplit('/').next().is_some_and(is_version);
    let path = text.contains('/') && !format || text.ends_with(".rs");
    path && text.chars().all(plain)
}

#[test]
fn every_path_exists() {
    let mut checked = 0;
    for (name, text) in documents() {
        for path in backticked(&split(&text).0).filter(|text| looks_like_a_path(text)) {
            let first = path.split('/').next().unwrap_or_default();
            if path.contains('/') && ELSEWHERE.contains(&first) {
                // It can be a file of the repository, such as `./test`, or of a user.
                continue;
            }
            assert!(root().join(path).exists(), "{name} names `{path}`, which does not exist");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} paths were found in the documents");
}

#[test]
fn every_link_leads_somewhere() {
    for (name, text) in documents() {
        let folder = root().join(&name).parent().expect("in a folder").to_owned();
        for link in split(&text).0.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            let target = if path.is_empty() { root().join(&name) } else { folder.join(path) };
            assert!(target.exists(), "{name} links to {link}, which does not exist");
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).expect("text");
                assert!(anchors(&text).contains(anchor), "{name}: no heading for {link}");
            }
        }
    }
}

/// Returns the anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn architecture_lists_every_crate() {
    let architecture =
        std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for name in crates() {
        assert!(
            architecture.contains(&format!("| `crates/{name}` |")),
            "ARCHITECTURE.md does not list crates/{name}"
        );
    }
}

fn crates() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("crates")).expect("crates is there");
    entries
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect()
}

/// The dependencies between crates in their Cargo.toml follow ARCHITECTURE.md.
#[test]
fn crates_use_only_those_that_architecture_allows() {
    for name in crates() {
        let allowed: &[&str] = match name.as_str() {
            "stats" | "model" | "preload" | "probe" | "simulation" => &[],
            "record" => &["model", "preload", "probe"],
            "measure" => &["model"],
            "report" => &["model", "stats"],
            "testkit" => &["preload"],
            _ => continue,
        };
        let path = root().join("crates").join(&name).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).expect("every crate has one");
        let own = text.split("[dev-dependencies]").next().unwrap_or_default();
        for used in own.lines().filter_map(|line| line.strip_prefix("simprof-")) {
            let used = used.split(['.', ' ']).next().unwrap_or_default();
            assert!(allowed.contains(&used), "crates/{name} must not use {used}");
        }
        for command_only in ["anyhow", "clap", "indicatif"] {
            let used = own.lines().any(|line| line.starts_with(command_only));
            assert!(!used, "crates/{name} must not use {command_only}");
        }
    }
}

#[test]
fn every_documented_spec_is_valid() {
    let workspace = Workspace::new();
    let mut tried = 0;
    for (name, text) in documents() {
        for (language, content) in split(&text).1 {
            if language != "toml" || !content.contains("[target]") {
                continue;
            }
            workspace.write("simprof.toml", &content);
            let done = workspace.simprof(&["run", "--plan"]);
            assert_eq!(done.status, Some(0), "{name}: {done:#?}\n{content}");
            tried += 1;
        }
    }
    assert!(tried >= 2, "only {tried} specs were found");
}

/// Every `simprof ...` of a shell block, or in backticks, names a command and flags that exist.
#[test]
fn every_documented_command_exists() {
    let mut tried = 0;
    for (name, text) in documents() {
        let (prose, blocks) = split(&text);
        let shell = blocks.iter().filter(|(language, _)| language == "sh");
        let lines = shell.flat_map(|(_, content)| content.lines());
        for line in lines.chain(backticked(&prose)).filter_map(|line| line.strip_prefix("simprof "))
        {
            check_command(&name, line.split(" #").next().unwrap_or_default());
            tried += 1;
        }
    }
    assert!(tried >= 10, "only {tried} commands were found");
}

fn check_command(document: &str, line: &str) {
    let own = line.split(" -- ").next().unwrap_or_default();
    let mut words = own.split_whitespace();
    let command = words.next().unwrap_or_default();
    let help = help(command);
    assert!(help.contains("Usage: simprof"), "{document}: there is no `simprof {command}`");
    for flag in words.filter(|word| word.starts_with("--")) {
        let flag = flag.split('=').next().unwrap_or_default();
        let listed = help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
        assert!(listed, "{document}: `simprof {command}` has no {flag}");
    }
}

fn help(command: &str) -> String {
    Workspace::new().simprof(&[command, "--help"]).stdout
}

/// The table of notices in FORMATS.md lists exactly the ids of the JSON Schema.
#[test]
fn every_notice_is_described() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let schema: serde_json::Value =
        serde_json::from_str(&read("docs/schemas/run.schema.json")).expect("JSON");
    let variants = schema["$defs"]["NoticeId"]["oneOf"].as_array().expect("an enum");
    let ids: BTreeSet<&str> = variants.iter().filter_map(|id| id["const"].as_str()).collect();
    let formats = read("docs/FORMATS.md");
    let section = formats.split("### Notices").nth(1).expect("a section on notices");
    let section = section.split("\n## ").next().unwrap_or_default();
    let described: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, described);
}

/// Every version range of CPython and every Linux version in a document is one of the supported versions in the code.
#[test]
fn supported_versions_in_documents_are_those_of_the_code() {
    use simprof_record::supported::{CPYTHON, PYTHON_FRAMES_LINUX, PYTHON_KERNEL_TIME_LINUX};

    let linux = regex::Regex::new(r"Linux \d+\.\d+( or later)?").expect("a pattern");
    let cpython = regex::Regex::new(r"CPython 3\.\d+ to 3\.\d+").expect("a pattern");
    let known = [PYTHON_FRAMES_LINUX, PYTHON_KERNEL_TIME_LINUX];
    for (name, text) in documents() {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for found in cpython.find_iter(&text) {
            assert_eq!(found.as_str(), CPYTHON, "{name}");
        }
        for found in linux.find_iter(&text) {
            let is_known = known.iter().any(|version| version.starts_with(found.as_str()));
            assert!(is_known, "{name}: {}", found.as_str());
        }
    }
    let readme = std::fs::read_to_string(root().join("README.md")).expect("it exists");
    let row = |start: &str| readme.lines().find(|line| line.starts_with(start)).expect("a row");
    let frames = row("| Python frames |");
    assert!(frames.contains(CPYTHON) && frames.contains(PYTHON_FRAMES_LINUX), "{frames}");
    assert!(row("| time in the kernel of Python processes |").contains(PYTHON_KERNEL_TIME_LINUX));
}
