//! The JSON Schemas in docs/schemas match the types.

use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use simprof_model::{HEAP_SCHEMA, HeapProfile, PROFILE_SCHEMA, Profile, RUN_SCHEMA, Run, Timeline};
use simprof_report::calls::{CALLS_SCHEMA, CallAnalysis};
use simprof_report::stacks::{STACKS_SCHEMA, StackAnalysis};
use simprof_report::summary::{ComponentSummary, LineSummary, MacroSummary, SystemSummary};

/// If set to 1, the schemas are rewritten.
const BLESS: &str = "SIMPROF_BLESS";

/// One schema: its file, the file that it describes, the value of that file's field `schema`, and the type.
struct Row {
    file: &'static str,
    title: &'static str,
    format: Option<&'static str>,
    schema: fn() -> Schema,
}

/// All schemas. To add one, add a row here.
const ROWS: [Row; 10] = [
    row::<Run>("run.schema.json", "run.json", Some(RUN_SCHEMA)),
    row::<Profile>("profile.schema.json", "profile.json", Some(PROFILE_SCHEMA)),
    row::<HeapProfile>("memory.schema.json", "memory.json", Some(HEAP_SCHEMA)),
    row::<MacroSummary>(
        "phase1_summary.schema.json",
        "phase1_summary.json",
        Some("simprof.phase1/1"),
    ),
    row::<ComponentSummary>(
        "phase2_summary.schema.json",
        "phase2_summary.json",
        Some("simprof.phase2/1"),
    ),
    row::<LineSummary>(
        "phase3_summary.schema.json",
        "phase3_summary.json",
        Some("simprof.phase3/1"),
    ),
    row::<SystemSummary>(
        "phase4_summary.schema.json",
        "phase4_summary.json",
        Some("simprof.phase4/1"),
    ),
    row::<Timeline>("timeline.schema.json", "timeline-CASE.json", None),
    row::<CallAnalysis>("calls.schema.json", "analyze --json of calls", Some(CALLS_SCHEMA)),
    row::<StackAnalysis>("stacks.schema.json", "analyze --json of stacks", Some(STACKS_SCHEMA)),
];

const fn row<T: JsonSchema>(
    file: &'static str,
    title: &'static str,
    format: Option<&'static str>,
) -> Row {
    Row { file, title, format, schema: schema_of::<T> }
}

/// Returns the schema of a type's JSON output. Fields that are always written are required.
fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(OneLine);
    settings.into_generator().into_root_schema_for::<T>()
}

/// Removes line breaks and links from descriptions, which come from rustdoc.
#[derive(Debug, Clone)]
struct OneLine;

impl Transform for OneLine {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(serde_json::Value::String(text)) = schema.get_mut("description") {
            *text = text
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .replace("[`", "`")
                .replace("`]", "`");
        }
        transform_subschemas(self, schema);
    }
}

fn text(row: &Row) -> String {
    let mut schema = (row.schema)();
    schema.insert("title".into(), row.title.into());
    if let Some(format) = row.format {
        let pointer = "/properties/schema";
        let field = schema.pointer_mut(pointer).expect("every file with a format names it");
        field["const"] = format.into();
    }
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas")
}

#[test]
fn committed_schemas_match_the_types() {
    let bless = std::env::var_os(BLESS).is_some_and(|value| value == "1");
    for row in &ROWS {
        let (path, wanted) = (folder().join(row.file), text(row));
        if bless {
            std::fs::write(&path, &wanted).expect("docs/schemas can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "docs/schemas/{} is missing or differs from the type; to rewrite it, run \
             {BLESS}=1 cargo test -p simprof-report --test schemas",
            row.file
        );
    }
}

#[test]
fn every_committed_schema_has_a_type() {
    for entry in std::fs::read_dir(folder()).expect("docs/schemas exists") {
        let name = entry.expect("readable").file_name();
        assert!(
            ROWS.iter().any(|row| name == row.file),
            "docs/schemas/{} has no type",
            name.display()
        );
    }
}

#[test]
fn fields_of_the_head_are_at_the_top_level() {
    for row in ROWS.iter().filter(|row| row.file.starts_with("phase")) {
        let schema = (row.schema)();
        for (field, kind) in [("target", "string"), ("measurements", "array"), ("notices", "array")]
        {
            let found = schema.pointer(&format!("/properties/{field}/type"));
            assert_eq!(found, Some(&kind.into()), "{}: {field}", row.file);
        }
        let required = schema.get("required").and_then(|required| required.as_array());
        let required = required.expect("some fields are required");
        for field in ["schema", "status", "measurements"] {
            assert!(required.contains(&field.into()), "{}: {field}", row.file);
        }
    }
}
