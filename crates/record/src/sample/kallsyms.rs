//! The kernel's function names, from `/proc/kallsyms`.

use std::path::Path;

/// A function of the kernel or of one of its modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KernelSymbol<'a> {
    pub start: u64,
    pub name: &'a str,
    /// `[kernel]`, or the module's name in brackets.
    pub module: &'a str,
}

/// The kernel's functions, by address.
#[derive(Debug, Default)]
pub(super) struct KernelSymbols {
    text: String,
    /// Start address of each function, and offset of its line in the text. There are more than 100,000, of which a profile
    /// needs a few hundred, so lines are parsed when they are looked up.
    starts: Vec<(u64, usize)>,
    base: u64,
}

impl KernelSymbols {
    /// Reads the names that this user may see. Without permission there are none.
    pub fn read() -> Self {
        match std::fs::read(Path::new("/proc/kallsyms")) {
            Ok(text) => Self::parse(String::from_utf8_lossy(&text).into_owned()),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: String) -> Self {
        let mut starts = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            starts.extend(parse_line(line).map(|symbol| (symbol.start, at)));
            at += line.len();
        }
        starts.sort_unstable();
        starts.dedup_by_key(|&mut (start, _)| start);
        let base = base(&text);
        Self { text, starts, base }
    }

    /// Returns the function at an address.
    pub fn at(&self, address: u64) -> Option<KernelSymbol<'_>> {
        let after = self.starts.partition_point(|&(start, _)| start <= address);
        let (_, line) = self.starts[after.checked_sub(1)?];
        parse_line(self.text[line..].lines().next()?)
    }

    /// Returns the start address of the kernel's code, or 0 if it is hidden.
    pub fn base(&self) -> u64 {
        self.base
    }
}

fn base(text: &str) -> u64 {
    let symbol = ["T _text", "T _stext"].iter().find_map(|name| {
        let line = text.lines().find(|line| line.ends_with(name))?;
        parse_line(line)
    });
    symbol.map_or(0, |symbol| symbol.start)
}

/// Parses `address type name [module]`. Returns `None` for data and for hidden addresses.
fn parse_line(line: &str) -> Option<KernelSymbol<'_>> {
    let mut words = line.split_ascii_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
    if start == 0 || !is_code {
        return None;
    }
    Some(KernelSymbol { start, name: words.next()?, module: words.next().unwrap_or("[kernel]") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_and_data_is_not() {
        let symbols = KernelSymbols::parse(
            "ffffffff81000000 T _text\nffffffff81000000 T startup_64\nffffffff81000100 t do_work\n\
             ffffffff81000180 d some_data\nffffffffc0000000 t helper\t[ext4]\ngarbage\n"
                .to_owned(),
        );
        let name = |address| symbols.at(address).map(|s| (s.name, s.module));
        assert_eq!(name(0xffff_ffff_8100_01ff), Some(("do_work", "[kernel]")));
        assert_eq!(name(0xffff_ffff_c000_0010), Some(("helper", "[ext4]")));
        assert_eq!(name(0x1000), None);
        assert_eq!(symbols.base(), 0xffff_ffff_8100_0000);
    }

    #[test]
    fn hidden_addresses_give_no_names() {
        let symbols = KernelSymbols::parse(
            "0000000000000000 T _text\n0000000000000000 t do_work\n".to_owned(),
        );
        assert_eq!(symbols.at(0xffff_ffff_8100_01ff), None);
    }
}
