//! Where damage, moves and gifts last happened: fields over the world that observers read.
//!
//! Each cell keeps its latest event and the turn it happened in; each block of cells the latest turn in it, so that an observer passes
//! over blocks where nothing happened since it last looked.

use super::window::{Cell, CellGrid, Window};
use super::{Channel, ChannelSet};
use crate::agent::AgentType;
use crate::geometry::{Area, Point};

/// Cells to a block's side.
const BLOCK: i32 = 8;

/// One kind of event over the world.
#[derive(Debug, Clone)]
struct Field {
    grid: CellGrid,
    block_columns: i32,
    /// The turn after each cell's latest event; 0 for none yet.
    turns: Vec<u64>,
    values: Vec<f32>,
    /// The latest of each block's turns.
    blocks: Vec<u64>,
}

impl Field {
    fn new(grid: CellGrid) -> Self {
        let cells = grid.columns as usize * grid.rows as usize;
        let block_columns = grid.columns.div_euclid(BLOCK) + 1;
        let block_rows = grid.rows.div_euclid(BLOCK) + 1;
        Self {
            grid,
            block_columns,
            turns: vec![0; cells],
            values: vec![0.0; cells],
            blocks: vec![0; (block_columns * block_rows) as usize],
        }
    }

    fn emit(&mut self, at: Point, value: f32, turn: u64) {
        let cell = self.grid.cell(at);
        let place = (cell.y * self.grid.columns + cell.x) as usize;
        self.turns[place] = turn + 1;
        self.values[place] = value;
        self.blocks[(cell.y / BLOCK * self.block_columns + cell.x / BLOCK) as usize] = turn + 1;
    }

    /// Raises the plane's visible cells to events of turn `since` and later; returns whether there were any.
    fn read(&self, window: &Window, centre: Cell, since: u64, plane: &mut [f32]) -> bool {
        let low = |at: i32| (at - window.view).max(0);
        let high = |at: i32, count: i32| (at + window.view).min(count - 1);
        let columns = low(centre.x)..=high(centre.x, self.grid.columns);
        let rows = low(centre.y)..=high(centre.y, self.grid.rows);
        let mut any = false;
        for block_y in rows.start() / BLOCK..=rows.end() / BLOCK {
            for block_x in columns.start() / BLOCK..=columns.end() / BLOCK {
                if self.blocks[(block_y * self.block_columns + block_x) as usize] <= since {
                    continue;
                }
                let x_range = (block_x * BLOCK).max(*columns.start())
                    ..=(block_x * BLOCK + BLOCK - 1).min(*columns.end());
                for y in (block_y * BLOCK).max(*rows.start())
                    ..=(block_y * BLOCK + BLOCK - 1).min(*rows.end())
                {
                    for x in x_range.clone() {
                        any |= self.read_cell(window, centre, Cell { x, y }, since, plane);
                    }
                }
            }
        }
        any
    }

    fn read_cell(
        &self,
        window: &Window,
        centre: Cell,
        cell: Cell,
        since: u64,
        plane: &mut [f32],
    ) -> bool {
        let source = (cell.y * self.grid.columns + cell.x) as usize;
        if self.turns[source] <= since {
            return false;
        }
        let Some(place) = window.visible(centre, cell) else {
            return false;
        };
        plane[place] = plane[place].max(self.values[source]);
        true
    }

    fn bytes(&self) -> usize {
        self.turns.capacity() * 8 + self.values.capacity() * 4 + self.blocks.capacity() * 8
    }
}

/// The fields of a world, one for each kind of event that somebody may see.
#[derive(Debug, Clone)]
pub struct EventFields {
    heat: Option<Field>,
    trails: Option<Field>,
    /// One for each agent type, since only allies read a signal.
    signals: Option<[Field; 3]>,
}

impl EventFields {
    /// The fields that the channels of a set need.
    #[must_use]
    pub fn new(world: Area, channels: ChannelSet) -> Self {
        let grid = CellGrid::of(world);
        let field = |channel| channels.has(channel).then(|| Field::new(grid));
        let signals = channels.has(Channel::AllySignal);
        Self {
            heat: field(Channel::DamageHeat),
            trails: field(Channel::Trails),
            signals: signals.then(|| std::array::from_fn(|_| Field::new(grid))),
        }
    }

    /// Damage was done to somebody here.
    pub fn heat(&mut self, at: Point, value: f32, turn: u64) {
        if let Some(field) = &mut self.heat {
            field.emit(at, value, turn);
        }
    }

    /// Somebody left here.
    pub fn trail(&mut self, at: Point, turn: u64) {
        if let Some(field) = &mut self.trails {
            field.emit(at, 1.0, turn);
        }
    }

    /// Somebody of a type shared here.
    pub fn signal(&mut self, kind: AgentType, at: Point, turn: u64) {
        if let Some(fields) = &mut self.signals {
            fields[kind as usize].emit(at, 1.0, turn);
        }
    }

    /// Raises a plane's visible cells to a channel's events of turn `since` and later; returns whether there were any.
    pub fn read(
        &self,
        channel: Channel,
        kind: AgentType,
        view: (&Window, Cell),
        since: u64,
        plane: &mut [f32],
    ) -> bool {
        let field = match channel {
            Channel::DamageHeat => self.heat.as_ref(),
            Channel::Trails => self.trails.as_ref(),
            Channel::AllySignal => self.signals.as_ref().map(|fields| &fields[kind as usize]),
            _ => None,
        };
        field.is_some_and(|field| field.read(view.0, view.1, since, plane))
    }

    /// Bytes of heap memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let single = [&self.heat, &self.trails].into_iter().flatten();
        single.chain(self.signals.iter().flatten()).map(Field::bytes).sum()
    }
}
