//! Inserting many rows with cached statements.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement};

/// A row of a table.
pub(crate) trait Row {
    /// The table's name.
    const TABLE: &'static str;
    /// The columns that [`bind`](Self::bind) fills, in order.
    const COLUMNS: &'static [&'static str];

    /// Binds one value for each column.
    fn bind(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()>;
}

/// Binds values to the parameters of a statement, one after the other.
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

/// The two statements that insert into one table: of a full batch of rows, and of a single one.
#[derive(Debug)]
pub(crate) struct InsertSql {
    batch_rows: usize,
    batch: String,
    single: String,
}

impl InsertSql {
    /// The statements of a table for batches of `batch_rows`.
    pub(crate) fn for_table<R: Row>(batch_rows: usize) -> Self {
        Self { batch_rows, batch: insert_sql::<R>(batch_rows), single: insert_sql::<R>(1) }
    }

    /// Inserts rows: as many whole batches as there are, and the rest one by one.
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
