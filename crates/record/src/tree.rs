//! Process trees, read from /proc.

use std::fs;

/// Returns the children of `pid` that /proc shows.
///
/// A process that is forked or ends during the search may be missed. To find all of them, call it
/// again until none is left.
pub fn children(pid: u32) -> Vec<u32> {
    listed_children(pid).unwrap_or_else(|| {
        let all = parents();
        all.iter().filter(|&&(_, parent)| parent == pid).map(|&(child, _)| child).collect()
    })
}

/// Returns all descendants of `pid`, parents before children, without `pid` itself.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    if listed_children(pid).is_some() {
        found.extend(children(pid));
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            let more = listed_children(parent).unwrap_or_default();
            found.extend(more);
            next += 1;
        }
        return found;
    }
    // The kernel has no CONFIG_PROC_CHILDREN: look at every process.
    let all = parents();
    let mut next = 0;
    let mut parent = Some(pid);
    while let Some(current) = parent {
        found.extend(all.iter().filter(|&&(_, of)| of == current).map(|&(child, _)| child));
        parent = found.get(next).copied();
        next += 1;
    }
    found
}

/// Returns the children of all threads of `pid`; `None` if the kernel has no such list.
fn listed_children(pid: u32) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for tid in numbers(&format!("/proc/{pid}/task")) {
        match fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")) {
            Ok(text) => {
                found.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()))
            }
            Err(_) if fs::exists("/proc/thread-self/children").unwrap_or(false) => {}
            Err(_) => return None,
        }
    }
    Some(found)
}

/// Returns every visible process with its parent.
fn parents() -> Vec<(u32, u32)> {
    numbers("/proc").filter_map(|pid| Some((pid, status(pid)?.1))).collect()
}

/// Returns the entries of a folder whose names are numbers.
pub fn numbers(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the state (such as `R` or `Z`) and the parent of a process; `None` if it does not exist.
pub fn status(pid: u32) -> Option<(char, u32)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may contain any bytes, also blanks and parentheses.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(&text[end + 1..]).ok()?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Returns the name of a process, at most 15 bytes; empty if it has gone.
pub fn name(pid: u32) -> String {
    let text = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned()
}

/// Returns whether the process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    status(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Returns the live processes that were started with `variable` (as `NAME=value`) in their environment.
pub fn with_variable(variable: &str) -> Vec<u32> {
    let holds = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
    };
    numbers("/proc").filter(holds).filter(|&pid| is_alive(pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_listed_while_they_live() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        let own = std::process::id();
        assert!(children(own).contains(&child.id()));
        assert!(descendants(own).contains(&child.id()));
        assert!(parents().contains(&(child.id(), own)));
        assert!(is_alive(child.id()));
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert!(!is_alive(child.id()));
        assert!(!children(own).contains(&child.id()));
    }
}
