//! Finds the qualified names of functions in a source file, since interpreters before 3.11 do not store them.
//!
//! The source is not parsed, only split into logical lines. Their indentation shows how functions and classes are nested.

use std::collections::HashMap;

/// The functions and classes of a source file.
#[derive(Debug, Default)]
pub struct Scopes {
    scopes: Vec<Scope>,
    /// Position by first line, which is that of the first decorator.
    by_line: HashMap<u32, usize>,
}

#[derive(Debug)]
struct Scope {
    name: String,
    is_function: bool,
    indentation: usize,
    /// Position of the enclosing scope.
    parent: Option<usize>,
    /// The line of `def` or `class`.
    line: u32,
    /// The first line after it.
    end: u32,
}

impl Scopes {
    /// Finds the functions and classes of a source file.
    pub fn read(source: &str) -> Self {
        let mut found = Self::default();
        let mut open: Vec<usize> = Vec::new();
        let mut decorated_from = None;
        for (line, text) in LogicalLines::new(source) {
            let indentation = indentation(text);
            while let Some(&innermost) = open.last()
                && found.scopes[innermost].indentation >= indentation
            {
                found.scopes[innermost].end = line;
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

    /// Returns the qualified name of the code object `name` that starts at a line; `None` if the source has no such object there.
    pub fn qualified(&self, name: &str, first_line: u32) -> Option<String> {
        if name.starts_with('<') {
            return Some(self.name_in(self.enclosing(first_line), name));
        }
        let scope = &self.scopes[*self.by_line.get(&first_line)?];
        (scope.name == name).then(|| self.name_in(scope.parent, name))
    }

    /// Returns the innermost function or class whose body contains a line.
    fn enclosing(&self, line: u32) -> Option<usize> {
        self.scopes.iter().rposition(|scope| scope.line < line && line < scope.end)
    }

    /// Returns the qualified name of `name` in a scope.
    fn name_in(&self, scope: Option<usize>, name: &str) -> String {
        let Some(scope) = scope.map(|index| &self.scopes[index]) else { return name.to_owned() };
        let separator = if scope.is_function { ".<locals>." } else { "." };
        format!("{}{separator}{name}", self.name_in(scope.parent, &scope.name))
    }
}

/// Returns the name that a line defines, and whether it is a function.
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

/// Returns the columns before the first character. Tabs extend to the next multiple of eight.
fn indentation(text: &str) -> usize {
    let blanks = text.chars().take_while(|c| c.is_whitespace());
    blanks.fold(0, |column, c| if c == '\t' { (column / 8 + 1) * 8 } else { column + 1 })
}

/// Iterates over the lines that start statements, with their numbers. Skips blank lines and those within brackets or strings.
struct LogicalLines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    state: State,
}

/// The constructs that are open at the end of a line.
#[derive(Debug, Default)]
struct State {
    brackets: usize,
    /// The quotes that end the open string.
    string: Option<&'static str>,
    /// Whether the line ends with a backslash.
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
            let starts_statement = self.state.is_closed();
            self.state.read(text);
            let first = text.trim_start().chars().next();
            if starts_statement && first.is_some_and(|first| first != '#') {
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
                    let quotes = opening_quotes(rest);
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
        // A string in single quotes ends with its line, unless the line continues.
        if self.string.is_some_and(|quotes| quotes.len() == 1) && !self.continues {
            self.string = None;
        }
    }
}

/// Returns the quotes at the start of a string.
fn opening_quotes(text: &str) -> &'static str {
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
    fn qualified_names_follow_from_indentation() {
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
    fn qualified_names_match_the_interpreter() {
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
