//! Inserts many rows with cached statements.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement};

/// A row of a table.
pub(crate) trait Row {
    /// Name of the table.
    const TABLE: &'static str;
    /// The columns, in the order in which [`bind`](Self::bind) binds their values.
    const COLUMNS: &'static [&'static str];

    /// Binds one value per column.
    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()>;
}

/// Binds values to the parameters of a statement in order.
pub(crate) struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    next: usize,
}

impl Binder<'_, '_> {
    fn value(&mut self, value: ToSqlOutput<'_>) -> rusqlite::Result<()> {
        let index = self.next;
        self.next += 1;
        self.statement.raw_bind_parameter(index, value)
    }

    pub(crate) fn integer(&mut self, value: u32) -> rusqlite::Result<()> {
        self.value(ToSqlOutput::Owned(Value::Integer(i64::from(value))))
    }

    pub(crate) fn long(&mut self, value: u64) -> rusqlite::Result<()> {
        self.value(ToSqlOutput::Owned(Value::Integer(value as i64)))
    }

    pub(crate) fn optional(&mut self, value: Option<u32>) -> rusqlite::Result<()> {
        let value = value.map_or(Value::Null, |value| Value::Integer(i64::from(value)));
        self.value(ToSqlOutput::Owned(value))
    }

    pub(crate) fn real(&mut self, value: f32) -> rusqlite::Result<()> {
        self.double(f64::from(value))
    }

    pub(crate) fn double(&mut self, value: f64) -> rusqlite::Result<()> {
        self.value(ToSqlOutput::Owned(Value::Real(value)))
    }

    pub(crate) fn text(&mut self, value: &'static str) -> rusqlite::Result<()> {
        self.value(ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())))
    }

    pub(crate) fn optional_text(&mut self, value: Option<&'static str>) -> rusqlite::Result<()> {
        match value {
            Some(text) => self.text(text),
            None => self.value(ToSqlOutput::Owned(Value::Null)),
        }
    }
}

/// The two INSERT statements of a table: one for a full batch of rows, one for a single row.
#[derive(Debug)]
pub(crate) struct InsertSql {
    batch_rows: usize,
    batch: String,
    single: String,
}

impl InsertSql {
    /// Creates the statements of a table for batches of `batch_rows` rows.
    pub(crate) fn for_table<R: Row>(batch_rows: usize) -> Self {
        Self { batch_rows, batch: insert_sql::<R>(batch_rows), single: insert_sql::<R>(1) }
    }

    /// Inserts rows: full batches first, then the remaining rows one by one.
    pub(crate) fn insert<R: Row>(
        &self,
        connection: &Connection,
        rows: &[R],
    ) -> rusqlite::Result<()> {
        let batches = rows.chunks_exact(self.batch_rows);
        let rest = batches.remainder();
        if rows.len() >= self.batch_rows {
            let mut statement = connection.prepare_cached(&self.batch)?;
            for batch in batches {
                execute(&mut statement, batch)?;
            }
        }
        if !rest.is_empty() {
            let mut statement = connection.prepare_cached(&self.single)?;
            for row in rest {
                execute(&mut statement, std::slice::from_ref(row))?;
            }
        }
        Ok(())
    }
}

fn execute<R: Row>(statement: &mut Statement<'_>, rows: &[R]) -> rusqlite::Result<()> {
    let mut binder = Binder { statement, next: 1 };
    for row in rows {
        row.bind(&mut binder)?;
    }
    statement.raw_execute()?;
    Ok(())
}

fn insert_sql<R: Row>(rows: usize) -> String {
    let parameters = vec!["?"; R::COLUMNS.len()].join(",");
    let tuples = vec![format!("({parameters})"); rows].join(",");
    let columns = R::COLUMNS.join(",");
    format!("INSERT INTO {} ({columns}) VALUES {tuples}", R::TABLE)
}
