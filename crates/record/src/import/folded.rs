//! Reads folded stacks: one line per stack, `root;caller;leaf weight`.

use simprof_model::{FrameId, WeightKind};

use super::sampled::{ImportedFrame, Stacks};
use super::{Imported, Malformed, Unit};

/// Returns whether the first line that is neither empty nor a comment is a stack and a weight.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    lines(&text).next().is_some_and(|(_, line)| stack_and_weight(line).is_some())
}

/// Reads all lines. Weights are numbers of samples, or of anything else that the writer counted.
pub(super) fn read(bytes: &[u8]) -> Result<Imported, Malformed> {
    let text = String::from_utf8_lossy(bytes);
    let mut stacks = Stacks::new(WeightKind::WallNs);
    let thread = stacks.builder.thread(0, 0, "");
    for (number, line) in lines(&text) {
        let (stack, weight) = stack_and_weight(line)
            .ok_or_else(|| format!("line {number} is not a stack followed by a weight"))?;
        let frame = |text| ImportedFrame::from_text(text).frame(&mut stacks.builder);
        let frames: Vec<FrameId> = stack.split(';').map(frame).collect();
        let stack = stacks.builder.stack(frames);
        stacks.sample(thread, stack, weight)?;
    }
    Ok(Imported::Stacks(Box::new(stacks.finish()), Unit::Samples))
}

/// Returns the lines with their numbers, without empty lines and comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let has_content = |line: &&str| !line.trim().is_empty() && !line.starts_with("# ");
    (1..).zip(text.lines()).filter(move |(_, line)| has_content(line))
}

fn stack_and_weight(line: &str) -> Option<(&str, u64)> {
    let (stack, weight) = line.trim_end().rsplit_once(' ')?;
    let plain = !stack.trim().is_empty() && !stack.contains(|c: char| c.is_control() && c != '\t');
    Some((stack, weight.parse().ok()?)).filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_and_weights_are_kept() {
        let text = b"# a comment\n\nmain;step (sim.py:3);f 30\nmain;step (sim.py:9) 10\r\n";
        assert!(recognises(text));
        let Ok(Imported::Stacks(profile, Unit::Samples)) = read(text) else { panic!("stacks") };
        assert_eq!((profile.total_weight(), profile.functions.len()), (40, 3));
        let depth = |at: usize| profile.frames_from_leaf(profile.samples[at].stack).count();
        assert_eq!((depth(0), depth(1)), (3, 2));
    }

    #[test]
    fn errors_name_the_line() {
        assert!(read(b"a;b 3\nc;d\n").expect_err("no weight").contains("line 2"));
        let huge = format!("a {}\nb 1\n", u64::MAX);
        assert!(read(huge.as_bytes()).expect_err("too much").contains("64 bits"));
        for text in [&b"a;b\n"[..], b"a;b -1\n", b" 3\n", b"\x01\x02 3", b"# x 3\n"] {
            assert!(!recognises(text), "{text:?}");
        }
    }
}
