//! Where damage, moves and gifts last happened: fields over the world that observers read.
//!
//! Each cell keeps its latest event and the turn it happened in; each block of cells the latest turn in it, so that an observer passes
//! over blocks where nothing happened since it last looked.

use super::window::{Cell, CellGrid, Window};
use super::{Channel, ChannelSet};
use crate::agent::AgentType;
use crate::geometry::{Area, Point};

/// Cells to a block's side.
const BLOCK: i32 = 4;

/// Cells of a block.
const BLOCK_CELLS: usize = (BLOCK * BLOCK) as usize;

/// Bits of a cell that hold the event's value; the turn is above them.
const VALUE_BITS: u32 = 24;

/// One in a cell's value.
const ONE: f32 = (1 << (VALUE_BITS - 1)) as f32;

/// One kind of event over the world.
#[derive(Debug, Clone)]
struct Field {
    grid: CellGrid,
    block_columns: i32,
    /// Each cell's latest event, block by block: the turn after it, and its value in fixed point; 0 for none yet.
    cells: Vec<u64>,
    /// The latest of each block's turns.
    blocks: Vec<u64>,
}

impl Field {
    fn new(grid: CellGrid) -> Self {
        let block_columns = grid.columns.div_euclid(BLOCK) + 1;
        let block_rows = grid.rows.div_euclid(BLOCK) + 1;
        let blocks = block_columns as usize * block_rows as usize;
        Self { grid, block_columns, cells: vec![0; blocks * BLOCK_CELLS], blocks: vec![0; blocks] }
    }

    fn block(&self, x: i32, y: i32) -> usize {
        y as usize * self.block_columns as usize + x as usize
    }

    fn emit(&mut self, at: Point, value: f32, turn: u64) {
        let cell = self.grid.cell(at);
        let block = self.block(cell.x / BLOCK, cell.y / BLOCK);
        let place = (cell.y % BLOCK * BLOCK + cell.x % BLOCK) as usize;
        let fixed = (value.clamp(0.0, 1.0) * ONE) as u64;
        self.cells[block * BLOCK_CELLS + place] = (turn + 1) << VALUE_BITS | fixed;
        self.blocks[block] = turn + 1;
    }

    /// Raises the plane's visible cells to events of turn `since` and later; returns whether there were any.
    fn read(&self, window: &Window, centre: Cell, since: u64, plane: &mut [f32]) -> bool {
        let low = |at: i32| (at - window.view).max(0) / BLOCK;
        let high = |at: i32, count: i32| (at + window.view).min(count - 1) / BLOCK;
        let mut any = false;
        for y in low(centre.y)..=high(centre.y, self.grid.rows) {
            for x in low(centre.x)..=high(centre.x, self.grid.columns) {
                let block = self.block(x, y);
                if self.blocks[block] > since {
                    let cells = &self.cells[block * BLOCK_CELLS..][..BLOCK_CELLS];
                    let corner = Cell { x: x * BLOCK - centre.x, y: y * BLOCK - centre.y };
                    any |= read_block(cells, window, corner, since, plane);
                }
            }
        }
        any
    }

    fn bytes(&self) -> usize {
        (self.cells.capacity() + self.blocks.capacity()) * size_of::<u64>()
    }
}

/// Reads the cells of one block, whose corner is at an offset from the window's centre.
fn read_block(cells: &[u64], window: &Window, corner: Cell, since: u64, plane: &mut [f32]) -> bool {
    let mut any = false;
    for (number, &cell) in cells.iter().enumerate() {
        if cell >> VALUE_BITS <= since {
            continue;
        }
        let number = number as i32;
        let offset = Cell { x: corner.x + number % BLOCK, y: corner.y + number / BLOCK };
        if let Some(place) = window.visible(Cell::default(), offset) {
            let value = (cell & ((1 << VALUE_BITS) - 1)) as f32 / ONE;
            plane[place] = plane[place].max(value);
            any = true;
        }
    }
    any
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
