//! Edits are compared with complete texts: the expected bytes change, and no others.

use toml::Value;

use super::*;

fn original(name: &str, text: &str) -> Result<Original, ConfigurationError> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), text).expect("written");
    Original::load(Path::new(name), Some(folder.path()))
}

fn edited(name: &str, text: &str, edits: &[(Mode, &str, Value)]) -> Result<String, String> {
    let edit = |(mode, path, value): &(Mode, &str, Value)| Edit {
        path: KeyPath::parse(path).unwrap_or_else(|error| panic!("{error}")),
        mode: *mode,
        value: value.clone(),
    };
    let edits: Vec<Edit> = edits.iter().map(edit).collect();
    let original = original(name, text).unwrap_or_else(|error| panic!("{error}"));
    original.edited(&edits).map_err(|error| error.to_string())
}

fn set(name: &str, text: &str, path: &str, value: impl Into<Value>) -> Result<String, String> {
    edited(name, text, &[(Mode::Set, path, value.into())])
}

fn add(name: &str, text: &str, path: &str, value: impl Into<Value>) -> Result<String, String> {
    edited(name, text, &[(Mode::Add, path, value.into())])
}

/// Asserts that setting `path` turns `before` in the text to `after`, and nothing else.
#[track_caller]
fn assert_sets(name: &str, text: &str, path: &str, value: impl Into<Value>, change: [&str; 2]) {
    assert_eq!(text.matches(change[0]).count(), 1, "{:?} is in the text once", change[0]);
    assert_eq!(set(name, text, path, value), Ok(text.replace(change[0], change[1])), "{path}");
}

const YAML: &str = "\
# größe
%%
model: &m   # the model
  agents: 50   # how many
  name: \"ü x\" # quoted
  speed: 1.5
  cache: yes
  seed:
  none: ~  # nothing
  text: |
    long lines, ü ü ü ü ü ü ü ü ü ü ü ü ü ü ü ü
    - and: more
  limits: {low: 0, high: [1, 2]}
  anchored: &n 5
  grid:
  - width: 10
    height: 0x10
  -   width: 20
      tags: ['on', \"1.10\"]
  when: 12:30:45
  tagged: !env HOME
  1: one
  'a.b': [x]
other:
  <<: *m
  same: *n
last:
- 1
- 2 # two
quotes: 'it''s' # \"don't\"
escaped: \"a\\\" \\\\\" # \"b\"
# end
";

fn yaml() -> String {
    YAML.replace("%%\n", "")
}

#[test]
fn setting_a_yaml_value_changes_only_that_value() {
    let text = yaml();
    let cases: [(&str, Value, [&str; 2]); 18] = [
        ("model.agents", 200.into(), ["agents: 50", "agents: 200"]),
        ("model.name", "a: b # c".into(), ["name: \"ü x\"", "name: \"a: b # c\""]),
        ("model.name", 7.into(), ["name: \"ü x\"", "name: 7"]),
        ("model.speed", 2.into(), ["speed: 1.5", "speed: 2.0"]),
        ("model.speed", 1e21.into(), ["speed: 1.5", "speed: 1.0e+21"]),
        ("model.cache", "false".into(), ["cache: yes", "cache: false"]),
        ("model.cache", "maybe".into(), ["cache: yes", "cache: \"maybe\""]),
        ("model.seed", 3.into(), ["seed:", "seed: 3"]),
        ("model.none", "no".into(), ["none: ~", "none: \"no\""]),
        ("model.limits.low", (-1).into(), ["low: 0", "low: -1"]),
        ("model.limits.high", vec![3, 4].into(), ["[1, 2]", "[3, 4]"]),
        ("model.anchored", 6.into(), ["&n 5", "&n 6"]),
        ("model.grid[0].width", 11.into(), ["width: 10", "width: 11"]),
        ("model.grid[1].tags[1]", "1.20".into(), ["\"1.10\"", "\"1.20\""]),
        ("model.1", "zwei".into(), ["1: one", "1: \"zwei\""]),
        ("other.same", 8.into(), ["*n", "8"]),
        ("quotes", 8.into(), ["'it''s'", "8"]),
        ("escaped", 8.into(), [r#""a\" \\""#, "8"]),
    ];
    for (path, value, change) in cases {
        assert_sets("c.yaml", &text, path, value, change);
    }
}

#[test]
fn yaml_blocks_are_replaced_whole() {
    let text = yaml();
    let block =
        text.split("text: ").nth(1).expect("there").split("\n  limits").next().expect("too");
    assert_sets("c.yaml", &text, "model.text", "short", [block, "\"short\""]);
    assert_sets("c.yaml", &text, "last", vec![5], ["last:\n- 1\n- 2 ", "last: [5] "]);
    assert_sets("c.yaml", &text, "last[1]", 9, ["- 2 ", "- 9 "]);
    assert_eq!(
        set("c.yml", "a:\r\n  b: 1\r\nc: 2\r\n", "a.b", 7).as_deref(),
        Ok("a:\r\n  b: 7\r\nc: 2\r\n")
    );
    assert_eq!(set("c.yml", "- 1\n- [2, 3]\n", "[1][0]", 7).as_deref(), Ok("- 1\n- [7, 3]\n"));
    assert_eq!(set("c.yml", "---\na:", "a", "x").as_deref(), Ok("---\na: \"x\""));
}

#[test]
fn texts_in_yaml_stay_texts_for_all_parsers() {
    for text in ["on", "1.10", "12:30", "a\nb", "\u{85}\u{2028}\u{7f}", "*x", "", "ü\"\\"] {
        let copy = set("c.yaml", "a: x\n", "a", text).expect("the edit is possible");
        assert_eq!(copy.lines().count(), 1, "{copy:?}");
        let tree = Format::Yaml.parse(&copy).expect("the copy can be parsed");
        let found = tree.find(&KeyPath::parse("a").expect("a path")).expect("the key exists");
        let tree::Content::Scalar(scalar) = &found.content else { panic!("{found:?}") };
        assert_eq!((scalar.kind, scalar.text.as_str()), (tree::Kind::Text, text));
    }
}

#[test]
fn a_yaml_key_is_added_to_its_table() {
    let text = yaml();
    let cases: [(&str, [&str; 2]); 5] = [
        ("model.extra", ["  agents: 50", "  \"extra\": 5\n  agents: 50"]),
        ("model.limits.mid", ["{low: 0", "{\"mid\": 5, low: 0"]),
        ("model.grid[0].depth", ["- width: 10", "- \"depth\": 5\n    width: 10"]),
        ("fresh.deep.key", ["model: &m", "\"fresh\": {\"deep\": {\"key\": 5}}\nmodel: &m"]),
        ("other.agents", ["  <<: *m", "  \"agents\": 5\n  <<: *m"]),
    ];
    for (path, [before, after]) in cases {
        assert_eq!(add("c.yaml", &text, path, 5), Ok(text.replace(before, after)), "{path}");
    }
    assert_eq!(add("c.yaml", "a: {}\n", "a.b", "x").as_deref(), Ok("a: {\"b\": \"x\"}\n"));
}

const TOML: &str = "\
title = 'run' # quoted
when = 1979-05-27T07:32:00-08:00
big = 1_000_000
x.y = 1

[model] # the model
agents = 50
speed = 1e3
flags = [true, false] # two
limits = { low = 0, high = 10 }
[model.sub]
deep = true
[[species]]
name = \"wolf\"
[[species]]
name = \"\"\"sheep\"\"\"
[only.inner]
v = inf
";

#[test]
fn setting_a_toml_value_changes_only_that_value() {
    let date: toml::value::Datetime = "2001-02-03".parse().expect("a date");
    let cases: [(&str, Value, [&str; 2]); 12] = [
        ("title", "it's \"x\"".into(), ["'run'", r#""it's \"x\"""#]),
        ("when", date.into(), ["1979-05-27T07:32:00-08:00", "2001-02-03"]),
        ("big", 5.into(), ["1_000_000", "5"]),
        ("x.y", 2.into(), ["x.y = 1", "x.y = 2"]),
        ("model.agents", 400.into(), ["agents = 50", "agents = 400"]),
        ("model.speed", 2.into(), ["speed = 1e3", "speed = 2.0"]),
        ("model.flags[1]", "true".into(), ["[true, false]", "[true, true]"]),
        ("model.flags", vec!["a"].into(), ["[true, false]", "[\"a\"]"]),
        ("model.limits.high", 99.into(), ["high = 10", "high = 99"]),
        ("model.sub.deep", false.into(), ["deep = true", "deep = false"]),
        ("species[1].name", "goat".into(), ["\"\"\"sheep\"\"\"", "\"goat\""]),
        ("only.inner.v", f64::NEG_INFINITY.into(), ["v = inf", "v = -inf"]),
    ];
    for (path, value, change) in cases {
        assert_sets("c.toml", TOML, path, value, change);
    }
}

#[test]
fn a_toml_key_is_added_to_its_table() {
    let cases: [(&str, [&str; 2]); 7] = [
        ("seed", ["title = ", "\"seed\" = 5\ntitle = "]),
        ("x.z", ["x.y = 1", "x.\"z\" = 5\nx.y = 1"]),
        ("model.extra", ["# the model\n", "# the model\n\"extra\" = 5\n"]),
        ("model.limits.mid", ["{ low = 0", "{\"mid\" = 5,  low = 0"]),
        ("model.fresh.key", ["# the model\n", "# the model\n\"fresh\" = { \"key\" = 5 }\n"]),
        (
            "species[0].size",
            ["[[species]]\nname = \"wolf\"", "[[species]]\n\"size\" = 5\nname = \"wolf\""],
        ),
        ("only.here", ["[only.inner]", "[\"only\"]\n\"here\" = 5\n[only.inner]"]),
    ];
    for (path, [before, after]) in cases {
        assert_eq!(add("c.toml", TOML, path, 5), Ok(TOML.replace(before, after)), "{path}");
    }
    assert_eq!(add("c.toml", "[a]", "a.b", 5).as_deref(), Ok("[a]\n\"b\" = 5"));
    assert_eq!(add("c.toml", "", "a", 5).as_deref(), Ok("\"a\" = 5\n"));
}

const JSON: &str = r#"{"big": 123456789012345678901234567890, "model": {"agents": 50, "speed": 0.5,
  "list": [1, {"deep": null}], "on": true, "name": "a\u0062"}, "empty": {}, "e": 1E5}"#;

#[test]
fn setting_a_json_value_changes_only_that_value() {
    let cases: [(&str, Value, [&str; 2]); 7] = [
        ("model.agents", 200.into(), ["\"agents\": 50", "\"agents\": 200"]),
        ("model.speed", 3.into(), ["0.5", "3.0"]),
        ("model.list[1].deep", "x\n".into(), ["null", "\"x\\n\""]),
        ("model.list", vec![2, 3].into(), ["[1, {\"deep\": null}]", "[2, 3]"]),
        ("model.on", "false".into(), ["true", "false"]),
        ("model.name", "ü".into(), ["\"a\\u0062\"", "\"ü\""]),
        ("big", i64::MAX.into(), ["123456789012345678901234567890", "9223372036854775807"]),
    ];
    for (path, value, change) in cases {
        assert_sets("c.json", JSON, path, value, change);
    }
    for (path, [before, after]) in [
        ("extra", ["{\"big\"", "{\"extra\": 5, \"big\""]),
        ("empty.key", ["{}", "{\"key\": 5}"]),
        ("model.list[1].more", ["{\"deep\"", "{\"more\": 5, \"deep\""]),
    ] {
        assert_eq!(add("c.json", JSON, path, 5), Ok(JSON.replace(before, after)), "{path}");
    }
}

#[test]
fn edits_are_applied_in_order() {
    let edits = [
        (Mode::Set, "a.b", Value::from(10)),
        (Mode::Add, "a.c.d", Value::from(1)),
        (Mode::Add, "a.c.e", Value::from(2)),
        (Mode::Set, "l[1]", Value::from("long text")),
        (Mode::Set, "l[0]", Value::from(3.5)),
    ];
    let text = edited("c.yaml", "a:\n  b: 1\nl: [1, 2]\n", &edits);
    let expected = "a:\n  \"c\": {\"e\": 2, \"d\": 1}\n  b: 10\nl: [3.5, \"long text\"]\n";
    assert_eq!(text.as_deref(), Ok(expected));
}

#[test]
fn impossible_edits_are_errors_that_suggest_the_most_similar_key() {
    let text = yaml();
    let cases: [(&str, Value, &[&str]); 12] = [
        (
            "model.agnets",
            1.into(),
            &["c.yaml: ", "`model.agnets`", "did you mean `model.agents`", "`add`"],
        ),
        ("modle.agents", 1.into(), &["`modle.agents`", "did you mean `model`"]),
        ("agents", 1.into(), &["`agents`", "did you mean `model.agents`"]),
        ("zzz", 1.into(), &["no key `zzz` (use"]),
        ("model.grid[2].width", 1.into(), &["`model.grid[2]`", "2 items"]),
        ("model.grid.width", 1.into(), &["`model.grid.width`", "a list"]),
        ("model.agents.x", 1.into(), &["`model.agents.x`", "a single value"]),
        ("model[0]", 1.into(), &["`model[0]`", "a table"]),
        ("model", 1.into(), &["`model` is a table", "would be lost"]),
        ("model.grid", 1.into(), &["`model.grid` is a list", "would be lost"]),
        ("model.tagged", 1.into(), &["`model.tagged` has a YAML tag"]),
        ("other.<<.agents", 1.into(), &["a YAML alias"]),
    ];
    for (path, value, words) in cases {
        let error = set("c.yaml", &text, path, value).expect_err(path);
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} in {error}"));
    }
    let error = add("c.yaml", &text, "model.agents", 1).expect_err("the key exists");
    assert!(
        error.contains("already has a key `model.agents`") && error.contains("`set`"),
        "{error}"
    );
    let error = add("c.yaml", &text, "last[2]", 1).expect_err("an item");
    assert!(error.contains("`last[2]` cannot be added"), "{error}");
    let error = add("c.yaml", &text, "model.agents.x", 1).expect_err("within a number");
    assert!(error.contains("a single value"), "{error}");
    let error = set("c.json", JSON, "model.speed", f64::INFINITY).expect_err("JSON has none");
    assert!(error.contains("`model.speed` cannot be inf: JSON"), "{error}");
    let error = set("c.json", "{\"a\": 1, \"a\": 2}", "a", 1).expect_err("the key is ambiguous");
    assert!(error.contains("several keys `a`"), "{error}");
}

/// Edits that would change other values are errors; they never corrupt the copy.
#[test]
fn an_edit_that_would_change_more_is_an_error() {
    for (name, text, path, value) in [
        ("c.yaml", "a: &l\n  - 1\nb: *l\n", "a", Value::from(vec![1])),
        ("c.yaml", "? {x: 1}\n: 2\nk:\n  ? z\n", "k.z", 1.into()),
        ("c.toml", "[[a]]\nb = 1\n[[a]]\nb = 2\n", "a", vec![1].into()),
    ] {
        let error = set(name, text, path, value).expect_err(text);
        assert!(error.contains("cannot be edited as it is written"), "{error}");
    }
}

#[test]
fn errors_of_parsers_name_the_file_and_the_line() {
    for (name, text, words) in [
        ("c.yaml", "a: 1\nb: [1\nc: 2\n", &["c.yaml, line 3", "YAML"][..]),
        ("c.yaml", "a: 1\n---\nb: 2\n", &["line 2", "several documents"]),
        ("c.toml", "a = 1\nb = = 2\n", &["c.toml, line 2", "TOML"]),
        ("c.json", "{\"a\": 1,\n \"b\": }\n", &["c.json, line 2", "JSON", "expected value"]),
        ("c.json", "", &["c.json, line 1"]),
        ("c.ini", "a = 1\n", &["c.ini", ".yaml", ".toml", ".json"]),
        ("config", "a = 1\n", &["config", ".yaml"]),
    ] {
        let error = original(name, text).expect_err(text).to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} in {error}"));
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let deep = "[".repeat(100_000);
    for name in ["c.yaml", "c.json", "c.toml"] {
        let text = if name == "c.toml" { format!("a = {deep}") } else { deep.clone() };
        original(name, &text).expect_err("nested too deeply");
    }
    let missing =
        Original::load(Path::new("nowhere/c.yaml"), None).expect_err("the file does not exist");
    assert!(missing.to_string().contains("nowhere/c.yaml"), "{missing}");
}

/// Fragments of all three formats, from which valid and invalid texts are composed.
const PIECES: &[&str] = &[
    "a", "b: ", "c = ", "\"d\": ", "1", "2.5", "true", "null", "ü", "'x'", "\"y\"", "- ", "\n",
    "\n  ", "\n    ", "{", "}", "[", "]", ", ", "# c\n", "&n ", "*n", "!t ", "|\n  z\n", "? ",
    "---\n", "[t]\n", "[[u]]\n", "\r\n", "\t", "\\", "\u{feff}",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    /// No text makes the parsers or the editor panic, and a successful edit has set the value.
    #[test]
    fn any_text_is_edited_correctly_or_rejected(pieces in proptest::collection::vec(0..PIECES.len(), 0..24)) {
        let text: String = pieces.into_iter().map(|index| PIECES[index]).collect();
        for format in [Format::Yaml, Format::Toml, Format::Json] {
            let Ok(tree) = format.parse(&text) else { continue };
            let original = Original { name: "x".into(), format, text: text.clone() };
            for path in tree.all_paths() {
                for (mode, path) in [(Mode::Set, path.clone()), (Mode::Add, path.with(path::Segment::Key("new".into())))] {
                    let edit = Edit { path: path.clone(), mode, value: Value::Integer(42) };
                    let Ok(copy) = original.edited(&[edit]) else { continue };
                    let tree = format.parse(&copy).map_err(|error| error.message).expect("the copy can be parsed");
                    let node = tree.find(&path).expect("the key exists");
                    assert!(matches!(&node.content, tree::Content::Scalar(scalar) if scalar.text.starts_with("42")), "{copy}");
                }
            }
        }
    }
}
