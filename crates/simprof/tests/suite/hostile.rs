//! Names of programs, functions and arguments that contain the special characters of report formats.

use crate::support::{FAST, Workspace, c_program, sampled};

/// A file name with characters that are special in HTML, Markdown, CSV, folded stacks and terminals.
const NAME: &str = "<script>alert(1)|`x`\n&amp;;,\"'\u{1b}[31m";

#[test]
fn hostile_names_do_not_break_reports() {
    let workspace = Workspace::new();
    workspace.copy_program(c_program("hostile"), NAME);
    let program = format!("./{NAME}");
    let mut arguments = vec!["run"];
    arguments.extend(FAST);
    arguments.extend(["--", &program, "<script>alert(2)</script>", "a\nb", "`id`", "{x}", "|"]);
    let done = workspace.simprof(&arguments);
    if !sampled(&done) {
        return;
    }
    let files = files(&workspace.latest(""));
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let text = workspace.text(&file);
        match file.rsplit('.').next() {
            Some("json") => drop(workspace.json(&file)),
            Some("svg") => assert!(!text.contains("<script>alert"), "{file}"),
            Some("md") => assert_markdown(&file, &text),
            Some("folded") => assert_folded(&file, &text),
            _ => {}
        }
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let functions = summary["functions"].as_array().expect("functions");
    let hostile = |name: &str| name.contains("<script>alert(1)</script>|`rm`;]]>&lt;");
    let named = functions.iter().any(|row| row["name"].as_str().is_some_and(hostile));
    assert!(named, "data keeps the name as it is: {functions:#?}");
}

/// Returns the paths of all files of a run, relative to its folder.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(folder).expect("it is below");
                found.push(relative.to_str().expect("file names are text").to_owned());
            }
        }
    }
    found
}

/// Asserts that HTML occurs only in code, and that names do not add cells to a table.
fn assert_markdown(file: &str, text: &str) {
    let mut fence = None;
    for line in text.lines() {
        let ticks = line.chars().take_while(|&c| c == '`').count();
        if ticks >= 3 && fence.is_none_or(|open| ticks >= open) {
            fence = if fence.is_some() { None } else { Some(ticks) };
            continue;
        }
        if fence.is_some() {
            continue;
        }
        let plain = without_code(line);
        for (at, _) in plain.match_indices("<script") {
            assert!(plain[..at].ends_with('\\'), "{file}: {line}");
        }
    }
    assert_eq!(fence, None, "{file}: every block of code ends");
    let mut columns = None;
    for line in text.lines() {
        let row = line.starts_with('|');
        let cells = line.replace("\\|", "").matches('|').count();
        assert!(!row || columns.is_none_or(|columns| columns == cells), "{file}: {line}");
        columns = row.then_some(cells);
    }
}

/// Returns a line without its inline code.
fn without_code(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        plain.push_str(&rest[..at]);
        if plain.ends_with('\\') {
            rest = &rest[at + 1..];
            continue;
        }
        let length = rest[at..].chars().take_while(|&c| c == '`').count();
        let (fence, inner) = (&rest[at..at + length], &rest[at + length..]);
        let Some(end) = inner.find(fence) else { break };
        rest = &inner[end + length..];
    }
    plain + rest
}

/// Asserts that every line is a stack and a number.
fn assert_folded(file: &str, text: &str) {
    for line in text.lines() {
        let (stack, weight) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{file}: {line}"));
        assert!(!stack.is_empty() && weight.parse::<u64>().is_ok(), "{file}: {line}");
    }
}
