//! Past events by position: damage, moves and shares. Observers read them.
//!
//! Each cell stores its latest event with its turn. Each block of cells stores its latest turn, so that an observer can skip blocks
//! without events since its last observation.

use super::window::{Cell, CellGrid, Window};
use super::{Channel, ChannelSet};
use crate::agent::AgentType;
use crate::geometry::{Area, Point};

/// Cells per side of a block.
const BLOCK: i32 = 4;

/// Number of cells in a block.
const BLOCK_CELLS: usize = (BLOCK * BLOCK) as usize;

/// The low bits of a cell that store the value of the event. The bits above store the turn.
const VALUE_BITS: u32 = 24;

/// The value 1 in fixed point.
const ONE: f32 = (1 << (VALUE_BITS - 1)) as f32;

/// All events of one kind.
#[derive(Debug, Clone)]
struct Field {
    grid: CellGrid,
    block_columns: i32,
    /// The latest event of each cell, block by block: its turn plus one, and its value in fixed point. 0 if there was none.
    cells: Vec<u64>,
    /// The latest turn plus one of each block.
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
        let index = (cell.y % BLOCK * BLOCK + cell.x % BLOCK) as usize;
        let fixed = (value.clamp(0.0, 1.0) * ONE) as u64;
        self.cells[block * BLOCK_CELLS + index] = (turn + 1) << VALUE_BITS | fixed;
        self.blocks[block] = turn + 1;
    }

    /// Sets each visible cell of a plane to the maximum of its value and the event there, if that is not older than turn `since`.
    /// Returns whether there were such events.
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
}

/// Reads the cells of one block. `corner` is the offset of its lower left cell from the centre of the window.
fn read_block(cells: &[u64], window: &Window, corner: Cell, since: u64, plane: &mut [f32]) -> bool {
    let mut any = false;
    for (number, &cell) in cells.iter().enumerate() {
        if cell >> VALUE_BITS <= since {
            continue;
        }
        let number = number as i32;
        let offset = Cell { x: corner.x + number % BLOCK, y: corner.y + number / BLOCK };
        if let Some(index) = window.visible(Cell::default(), offset) {
            let value = (cell & ((1 << VALUE_BITS) - 1)) as f32 / ONE;
            plane[index] = plane[index].max(value);
            any = true;
        }
    }
    any
}

/// The past events of a world, by kind.
#[derive(Debug, Clone)]
pub struct EventFields {
    heat: Option<Field>,
    trails: Option<Field>,
    /// One field per agent type, because only allies see a signal.
    signals: Option<[Field; 3]>,
}

impl EventFields {
    /// Creates the fields for a set of channels.
    #[must_use]
    pub fn new(world: Area, channels: ChannelSet) -> Self {
        let grid = CellGrid::for_world(world);
        let field = |channel| channels.has(channel).then(|| Field::new(grid));
        let signals = channels.has(Channel::AllySignal);
        Self {
            heat: field(Channel::DamageHeat),
            trails: field(Channel::Trails),
            signals: signals.then(|| std::array::from_fn(|_| Field::new(grid))),
        }
    }

    /// Records damage to an agent at a position.
    pub fn heat(&mut self, at: Point, value: f32, turn: u64) {
        if let Some(field) = &mut self.heat {
            field.emit(at, value, turn);
        }
    }

    /// Records that an agent moved away from a position.
    pub fn trail(&mut self, at: Point, turn: u64) {
        if let Some(field) = &mut self.trails {
            field.emit(at, 1.0, turn);
        }
    }

    /// Records that an agent of a type shared at a position.
    pub fn signal(&mut self, kind: AgentType, at: Point, turn: u64) {
        if let Some(fields) = &mut self.signals {
            fields[kind as usize].emit(at, 1.0, turn);
        }
    }

    /// Sets each visible cell of a plane to the maximum of its value and the channel's event there, if that is not older than turn
    /// `since`. Returns whether there were such events. `view` is the window with its centre.
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
}
