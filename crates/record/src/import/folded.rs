//! Reads folded stacks: one line per stack, `root;caller;leaf weight`.
//!
//! Programs differ in how they write them. The weight may be a fraction, and a tab may separate it. A differential profile has two
//! weights, of the program before and after a change: the last one counts, as in `flamegraph.pl`. A stack may be empty. Other lines
//! are skipped and reported.

use simprof_model::{FrameId, Notice, NoticeId, WeightKind};

use super::sampled::{ImportedFrame, Stacks};
use super::weight::{Weight, is_number};
use super::{Imported, Malformed, Unit};

/// Number of lines by which the format is recognised.
const EXAMINED: usize = 1000;
/// Number of skipped lines that the notice names.
const NAMED: usize = 3;

/// Returns whether at least half of the first lines are stacks with weights, and whether there is such a line at all.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (mut stacks, mut others) = (0, 0);
    for (_, line) in lines(&text).take(EXAMINED) {
        match Line::parse(line) {
            Some(_) => stacks += 1,
            None => others += 1,
        }
    }
    stacks > 0 && stacks >= others
}

/// Reads all lines. Weights are numbers of samples, or of anything else that the writer counted.
pub(super) fn read(bytes: &[u8]) -> Result<Imported, Malformed> {
    let text = String::from_utf8_lossy(bytes);
    let columns = Columns::of(&text);
    let mut stacks = Stacks::new(WeightKind::WallNs);
    let thread = stacks.builder.thread(0, 0, "");
    let mut skipped = Skipped::default();
    for (number, line) in lines(&text) {
        let Some(line) = Line::parse(line) else {
            skipped.add(number);
            continue;
        };
        let weight = Weight::parse(line.weight).ok_or_else(|| {
            Malformed::Invalid(format!("line {number} has the weight {}", line.weight))
        })?;
        let names = columns.stack(&line).split(';').map(str::trim).filter(|name| !name.is_empty());
        let frames: Vec<FrameId> =
            names.map(|name| ImportedFrame::from_text(name).frame(&mut stacks.builder)).collect();
        let stack = stacks.builder.stack(frames);
        stacks.sample(thread, stack, weight);
    }
    let mut stacks = stacks.finish(Unit::Samples)?;
    stacks.notices.extend(columns.notice());
    stacks.notices.extend(skipped.notice());
    Ok(Imported::Stacks(Box::new(stacks)))
}

/// Returns the lines with their numbers, without blank lines and comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let has_content =
        |line: &&str| !line.trim().is_empty() && !line.starts_with("# ") && *line != "#";
    (1..).zip(text.lines()).filter(move |(_, line)| has_content(line))
}

/// A stack and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<'a> {
    /// The stack with all weights but the last.
    stack: &'a str,
    /// A number, perhaps one that is not possible as a weight.
    weight: &'a str,
}

impl<'a> Line<'a> {
    /// Splits a line. `None` if it is not a stack with a weight.
    fn parse(line: &'a str) -> Option<Self> {
        let (stack, weight) = line.trim_end().rsplit_once([' ', '\t'])?;
        let is_text = !stack.contains(|c: char| c.is_control() && c != '\t');
        (is_text && is_number(weight)).then_some(Self { stack: stack.trim(), weight })
    }

    /// Returns the stack without a number at its end; `None` if there is none.
    fn before_first_weight(&self) -> Option<&'a str> {
        let (stack, first) = self.stack.rsplit_once([' ', '\t'])?;
        is_number(first).then(|| stack.trim_end())
    }
}

/// How many weights each line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    One,
    /// A number before the weight is a part of the name, because this line does not have one.
    Mixed {
        without: usize,
    },
    Two,
}

impl Columns {
    /// Every line of a differential profile has two weights.
    fn of(text: &str) -> Self {
        let (mut with, mut without) = (false, None);
        let stacks = lines(text).filter_map(|(number, line)| Some((number, Line::parse(line)?)));
        for (number, line) in stacks.filter(|(_, line)| !line.stack.is_empty()) {
            match line.before_first_weight() {
                Some(_) => with = true,
                None => without = without.or(Some(number)),
            }
        }
        match (with, without) {
            (false, _) => Self::One,
            (true, None) => Self::Two,
            (true, Some(without)) => Self::Mixed { without },
        }
    }

    fn stack<'a>(self, line: &Line<'a>) -> &'a str {
        let without = (self == Self::Two).then(|| line.before_first_weight()).flatten();
        without.unwrap_or(line.stack)
    }

    fn notice(self) -> Option<Notice> {
        let text = match self {
            Self::One => return None,
            Self::Two => "Each line has two weights, as in a differential profile. The figures are of the second one.".to_owned(),
            Self::Mixed { without } => format!(
                "Some lines have two numbers, but line {without} has one. The first number is taken as a part of the function's name."
            ),
        };
        Some(Notice::new(NoticeId::WeightColumns, text))
    }
}

/// Lines that are not stacks with weights.
#[derive(Debug, Default)]
struct Skipped {
    count: usize,
    first: Vec<usize>,
}

impl Skipped {
    fn add(&mut self, number: usize) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(number);
        }
    }

    fn notice(&self) -> Option<Notice> {
        let numbers: Vec<String> = self.first.iter().map(usize::to_string).collect();
        let (numbers, count) = (numbers.join(", "), self.count);
        let text = match count {
            0 => return None,
            1 => format!("Line {numbers} is not a stack with a weight and is skipped."),
            _ if count <= NAMED => format!(
                "{count} lines are not stacks with weights and are skipped: lines {numbers}."
            ),
            _ => format!(
                "{count} lines are not stacks with weights and are skipped, the first of them lines {numbers}."
            ),
        };
        Some(Notice::new(NoticeId::LinesSkipped, text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::ImportedStacks;

    fn imported(text: &str) -> ImportedStacks {
        assert!(recognises(text.as_bytes()), "{text:?}");
        match read(text.as_bytes()) {
            Ok(Imported::Stacks(stacks)) => *stacks,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    /// Returns the stacks with their multiples of the unit, and the ids of the notices.
    fn content(text: &str) -> (Vec<(String, u64)>, u64, Vec<NoticeId>) {
        let ImportedStacks { profile, units, notices, .. } = imported(text);
        let name = |frame| profile.function_name(profile.frame(frame).function);
        let stacks = profile.samples.iter().map(|sample| {
            let mut names: Vec<_> = profile.frames_from_leaf(sample.stack).map(name).collect();
            names.reverse();
            (names.join(";"), sample.weight)
        });
        (stacks.collect(), units, notices.iter().map(|notice| notice.id).collect())
    }

    #[test]
    fn variants_of_the_format_are_read() {
        use NoticeId::{LinesSkipped, StacksEmpty, WeightColumns};
        type Row<'a> = (&'a str, &'a [(&'a str, u64)], u64, &'a [NoticeId]);
        let table: [Row; 15] = [
            ("main;a 3\nmain;b 1\n", &[("main;a", 3), ("main;b", 1)], 1, &[]),
            ("# made\n#\n\nmain;a 3\r\n \t \n", &[("main;a", 3)], 1, &[]),
            ("main;a 2.5\nmain;b 7.5\n", &[("main;a", 25), ("main;b", 75)], 10, &[]),
            ("main;a 1e3\nmain;b 3E3\n", &[("main;a", 1000), ("main;b", 3000)], 1, &[]),
            ("main;a\t3\nmain;b \t 1 \t\n", &[("main;a", 3), ("main;b", 1)], 1, &[]),
            ("  main ; a  3\n", &[("main;a", 3)], 1, &[]),
            ("main;;a 3\n;b 1\n", &[("main;a", 3), ("b", 1)], 1, &[]),
            (" 5\nmain 1\n", &[("", 5), ("main", 1)], 1, &[StacksEmpty]),
            ("main;a 3 9\nmain;b\t1\t3\n", &[("main;a", 9), ("main;b", 3)], 1, &[WeightColumns]),
            ("main;a 3 9\nmain;b 1\n", &[("main;a 3", 9), ("main;b", 1)], 1, &[WeightColumns]),
            ("main;a 3\nmain;b\nmain;c 1\n", &[("main;a", 3), ("main;c", 1)], 1, &[LinesSkipped]),
            ("f(int, char) 3\na[1] (x) 5\n", &[("f(int, char)", 3), ("a[1] (x)", 5)], 1, &[]),
            ("main;a 0\nmain;b 1\n", &[("main;a", 0), ("main;b", 1)], 1, &[]),
            ("main;a inf\nmain;b 1\n", &[("main;b", 1)], 1, &[LinesSkipped]),
            (
                "main;a 9223372036854775808\nmain;b 9223372036854775807\n",
                &[("main;a", 1 << 63), ("main;b", (1 << 63) - 1)],
                1,
                &[],
            ),
        ];
        for (text, stacks, units, notices) in table {
            let stacks = stacks.iter().map(|&(stack, weight)| (stack.to_owned(), weight));
            assert_eq!(content(text), (stacks.collect(), units, notices.to_vec()), "{text:?}");
        }
    }

    #[test]
    fn locations_are_parsed() {
        let profile = imported("main;step (sim.py:3);f 30\nmain;step (sim.py:9) 10\n").profile;
        assert_eq!((profile.total_weight(), profile.functions.len()), (40, 3));
    }

    #[test]
    fn skipped_lines_are_named() {
        let notice = |text: &str| imported(text).notices[0].text.clone();
        let one = notice("a 1\nb\nc 2\n");
        assert!(one.starts_with("Line 2 is not"), "{one}");
        let many = notice("a 1\nb\nc 2\nd\n\ne\nf\na 1\na 1\n");
        assert!(many.starts_with("4 lines") && many.contains("2, 4, 6"), "{many}");
    }

    #[test]
    fn errors_name_the_line_or_the_reason() {
        let huge = format!("a {}\nb 1\n", u64::MAX);
        for (text, words) in [
            ("main;a 3\nmain;b -1\n", "line 2 has the weight -1"),
            ("main;a 3\nmain;b 1e99\n", "line 2 has the weight 1e99"),
            (huge.as_str(), "64 bits"),
            ("main;a 0\nmain;b 0.0\n", "nothing in it"),
        ] {
            assert!(recognises(text.as_bytes()), "{text:?}");
            let Err(Malformed::Invalid(reason)) = read(text.as_bytes()) else {
                panic!("{text:?} is read")
            };
            assert!(reason.contains(words), "{words}: {reason}");
        }
    }

    #[test]
    fn other_text_is_not_recognised() {
        let others = [
            &b"a;b\n"[..],
            b"5\n",
            b"\x01\x02 3",
            b"# x 3\n",
            b"import sys\nx = 3\ny\n",
            b"a nan\n",
        ];
        for text in others {
            assert!(!recognises(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a;# \t\n0-9.eE+-]{0,80}") {
            if let Ok(Imported::Stacks(stacks)) = read(text.as_bytes()) {
                prop_assert!(stacks.profile.total_weight() > 0);
                prop_assert!(stacks.profile.samples.len() <= text.lines().count());
            }
        }
    }
}
