//! Qualified names of functions, from a source: interpreters before 3.11 do not know them.
//!
//! A source is not parsed, only split into logical lines, whose indentation tells what is within what.

use std::collections::HashMap;

/// The functions and classes of a source.
#[derive(Debug, Default)]
pub struct Scopes {
    scopes: Vec<Scope>,
    /// Position by the first line, which is that of the first decorator.
    by_line: HashMap<u32, usize>,
}

#[derive(Debug)]
struct Scope {
    name: String,
    is_function: bool,
    indentation: usize,
    /// Position of the scope around it.
    parent: Option<usize>,
    /// The line of `def` or `class`.
    line: u32,
    /// The first line after it.
    end: u32,
}

impl Scopes {
    /// Finds the functions and classes of a source.
    pub fn read(source: &str) -> Self {
        let mut found = Self::default();
        let mut open: Vec<usize> = Vec::new();
        let mut decorated_from = None;
        for (line, text) in LogicalLines::new(source) {
            let indentation = indentation(text);
            while let Some(&at) = open.last()
                && found.scopes[at].indentation >= indentation
            {
                found.scopes[at].end = line;
                open.pop();
            }
            let text = text.trim_start();
            if text.starts_with('@') {
                decorated_from = decorated_from.or(Some(line));
                continue;
            }
            let first = decorated_from.take().unwrap_or(line);
            if let Some((name, is_function)) = definition(text) {
                let (name, parent) = (name.to_owned(), open.last().copied());
                open.push(found.scopes.len());
                found.by_line.insert(first, found.scopes.len());
                let end = u32::MAX;
                found.scopes.push(Scope { name, is_function, indentation, parent, line, end });
            }
        }
        found
    }

    /// The qualified name of the code that is called `name` and starts in a line; none where the source does not fit.
    pub fn qualified(&self, name: &str, first_line: u32) -> Option<String> {
        if name.starts_with('<') {
            return Some(self.within(self.around(first_line), name));
        }
        let &at = self.by_line.get(&first_line)?;
        let scope = &self.scopes[at];
        (scope.name == name).then(|| self.within(scope.parent, name))
    }

    /// The innermost function or class whose body a line is in.
    fn around(&self, line: u32) -> Option<usize> {
        self.scopes.iter().rposition(|scope| scope.line < line && line < scope.end)
    }

    fn within(&self, scope: Option<usize>, name: &str) -> String {
        let Some(at) = scope else { return name.to_owned() };
        let scope = &self.scopes[at];
        let between = if scope.is_function { ".<locals>." } else { "." };
        format!("{}{between}{name}", self.within(scope.parent, &scope.name))
    }
}

/// The name that a line defines, and whether it is a function's.
fn definition(text: &str) -> Option<(&str, bool)> {
    let rest = match text.strip_prefix("async") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => text,
    };
    let (rest, is_function) = match rest.strip_prefix("def") {
        Some(rest) => (rest, true),
        None => (rest.strip_prefix("class")?, false),
    };
    let name = rest.strip_prefix([' ', '\t'])?.trim_start();
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    (end > 0).then(|| (&name[..end], is_function))
}

/// Columns before the first character; tabs reach to the next multiple of eight.
fn indentation(text: &str) -> usize {
    let blanks = text.chars().take_while(|c| c.is_whitespace());
    blanks.fold(0, |column, c| if c == '\t' { (column / 8 + 1) * 8 } else { column + 1 })
}

/// Lines that begin statements, each with its number; not those within brackets or strings, nor blank ones.
struct LogicalLines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    state: State,
}

/// What a line leaves open at its end.
#[derive(Debug, Default)]
struct State {
    brackets: usize,
    /// The quotes that end the string which is open.
    string: Option<&'static str>,
    /// The line ends with a backslash.
    continues: bool,
}

impl<'a> LogicalLines<'a> {
    fn new(source: &'a str) -> Self {
        Self { lines: source.lines().enumerate(), state: State::default() }
    }
}

impl<'a> Iterator for LogicalLines<'a> {
    type Item = (u32, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (index, text) = self.lines.next()?;
            let begins = self.state.is_closed();
            self.state.read(text);
            let first = text.trim_start().chars().next();
            if begins && first.is_some_and(|first| first != '#') {
                return Some((u32::try_from(index + 1).ok()?, text));
            }
        }
    }
}

impl State {
    fn is_closed(&self) -> bool {
        self.brackets == 0 && self.string.is_none() && !self.continues
    }

    fn read(&mut self, line: &str) {
        self.continues = false;
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let after = &rest[first.len_utf8()..];
            rest = match (self.string, first) {
                (_, '\\') if after.is_empty() => {
                    self.continues = true;
                    after
                }
                (Some(_), '\\') => &after[after.chars().next().map_or(0, char::len_utf8)..],
                (Some(quotes), _) if rest.starts_with(quotes) => {
                    self.string = None;
                    &rest[quotes.len()..]
                }
                (Some(_), _) => after,
                (None, '#') => "",
                (None, '"' | '\'') => {
                    let quotes = opening(rest);
                    self.string = Some(quotes);
                    &rest[quotes.len()..]
                }
                (None, '(' | '[' | '{') => {
                    self.brackets += 1;
                    after
                }
                (None, ')' | ']' | '}') => {
                    self.brackets = self.brackets.saturating_sub(1);
                    after
                }
                _ => after,
            };
        }
        // A string in single quotes ends with its line, unless that continues.
        if self.string.is_some_and(|quotes| quotes.len() == 1) && !self.continues {
            self.string = None;
        }
    }
}

/// The quotes that a string begins with.
fn opening(text: &str) -> &'static str {
    let all = ["\"\"\"", "'''", "\"", "'"];
    all.into_iter().find(|quotes| text.starts_with(quotes)).unwrap_or("'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::python::testing;

    const SOURCE: &str = r#"import x
"""
def not_this():
"""
def plain(a=(1,
def_=2)):
    return [y for y in a]

class Outer(Base):
    text = 'def no(): \
    def neither(): pass'
    @decorate(
        1)
    # a remark
    @again
    def method(self):
        def inner(): pass
        key = lambda z: z
	# a tab
    async  def later(self): pass
    class Inner:
        def method(self): return {
    }
value = lambda: 1
if x:
    def conditional(): pass
"#;

    #[test]
    fn names_are_found_by_indentation() {
        let scopes = Scopes::read(SOURCE);
        let table = [
            ("plain", 5, Some("plain")),
            ("<listcomp>", 7, Some("plain.<locals>.<listcomp>")),
            ("Outer", 9, Some("Outer")),
            ("method", 12, Some("Outer.method")),
            ("inner", 17, Some("Outer.method.<locals>.inner")),
            ("<lambda>", 18, Some("Outer.method.<locals>.<lambda>")),
            ("later", 20, Some("Outer.later")),
            ("method", 22, Some("Outer.Inner.method")),
            ("<lambda>", 24, Some("<lambda>")),
            ("conditional", 26, Some("conditional")),
            ("not_this", 3, None),
            ("no", 10, None),
            ("method", 13, None),
            ("other", 5, None),
            ("<module>", 1, Some("<module>")),
        ];
        for (name, line, expected) in table {
            assert_eq!(scopes.qualified(name, line).as_deref(), expected, "{name} at {line}");
        }
    }

    /// Prints name, first line and qualified name of the functions and classes of a large module.
    const SCRIPT: &str = "
import types, argparse, inspect
names = set()
def walk(code, prefix):
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            qualified = prefix + constant.co_name
            is_class = constant.co_names[:2] == ('__name__', '__module__')
            print(constant.co_name, constant.co_firstlineno, qualified)
            walk(constant, qualified + ('.' if is_class else '.<locals>.'))
for module in (argparse, inspect):
    print('FILE', module.__file__)
    walk(compile(open(module.__file__).read(), '', 'exec'), '')
";

    #[test]
    fn names_are_those_of_the_interpreter() {
        let (mut scopes, mut compared, mut same) = (Scopes::default(), 0, 0);
        for row in testing::run(&testing::interpreters()[0], SCRIPT).lines() {
            let fields: Vec<_> = row.split(' ').collect();
            match fields[..] {
                ["FILE", path] => {
                    scopes = Scopes::read(&std::fs::read_to_string(path).expect("the source"));
                }
                [name, line, expected] if !name.starts_with('<') => {
                    let line = line.parse().expect("a line");
                    compared += 1;
                    same += u32::from(scopes.qualified(name, line).as_deref() == Some(expected));
                }
                _ => {}
            }
        }
        assert!(compared > 200, "{compared}");
        assert_eq!(same, compared);
    }
}
