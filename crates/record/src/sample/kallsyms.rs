//! Names of the kernel's functions, from /proc/kallsyms.

use std::path::Path;

/// A function of the kernel or of one of its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelSymbol {
    pub start: u64,
    pub name: String,
    /// `[kernel]`, or the module's name in brackets.
    pub module: String,
}

/// The kernel's functions, by address.
#[derive(Debug, Default)]
pub(super) struct KernelSymbols {
    symbols: Vec<KernelSymbol>,
}

impl KernelSymbols {
    /// Reads the names that the system shows to this user; none where it hides them.
    pub fn read() -> Self {
        match std::fs::read(Path::new("/proc/kallsyms")) {
            Ok(text) => Self::parse(&String::from_utf8_lossy(&text)),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let mut symbols: Vec<_> = text.lines().filter_map(parse_line).collect();
        symbols.sort_by(|a, b| a.start.cmp(&b.start));
        symbols.dedup_by_key(|symbol| symbol.start);
        Self { symbols }
    }

    /// The function at an address.
    pub fn at(&self, address: u64) -> Option<&KernelSymbol> {
        let after = self.symbols.partition_point(|symbol| symbol.start <= address);
        Some(&self.symbols[after.checked_sub(1)?])
    }

    /// Where the kernel's own code starts.
    pub fn base(&self) -> u64 {
        let text = self.symbols.iter().find(|s| s.name == "_text" || s.name == "_stext");
        text.map_or(0, |symbol| symbol.start)
    }
}

/// Reads `address type name [module]`; none for data, and where the address is hidden.
fn parse_line(line: &str) -> Option<KernelSymbol> {
    let mut words = line.split_ascii_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
    if start == 0 || !is_code {
        return None;
    }
    let name = words.next()?.to_owned();
    Some(KernelSymbol { start, name, module: words.next().unwrap_or("[kernel]").to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_and_data_is_not() {
        let symbols = KernelSymbols::parse(
            "ffffffff81000000 T _text\nffffffff81000000 T startup_64\nffffffff81000100 t do_work\n\
             ffffffff81000180 d some_data\nffffffffc0000000 t helper\t[ext4]\ngarbage\n",
        );
        let name = |address| symbols.at(address).map(|s| (s.name.as_str(), s.module.as_str()));
        assert_eq!(name(0xffff_ffff_8100_01ff), Some(("do_work", "[kernel]")));
        assert_eq!(name(0xffff_ffff_c000_0010), Some(("helper", "[ext4]")));
        assert_eq!(name(0x1000), None);
        assert_eq!(symbols.base(), 0xffff_ffff_8100_0000);
    }

    #[test]
    fn hidden_addresses_give_no_names() {
        let symbols =
            KernelSymbols::parse("0000000000000000 T _text\n0000000000000000 t do_work\n");
        assert_eq!(symbols.at(0xffff_ffff_8100_01ff), None);
    }
}
