//! Native stacks as a tree in shared memory: each distinct frame called from a distinct stack is there once.

use core::sync::atomic::Ordering;

use super::draw;
use super::format::{Header, NODES, Node};
use super::shared::{self, Shared};
use crate::table;

/// Nodes that were found lately, for one thread at a time; all zeros where there are none. The hash table and the nodes take so
/// much memory that nearly each access to them misses the caches; here a few pages serve for most.
pub struct Recent([[Found; 2]; SETS]);

/// A power of two.
const SETS: usize = 1 << 9;

/// A frame that was called from the node `parent`, and its node; 0 where there is none.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Found {
    address: u64,
    parent: u32,
    module: u32,
    node: u32,
}

impl Found {
    #[inline]
    fn is(&self, parent: u32, module: u32, address: u64) -> bool {
        self.node != 0 && (self.parent, self.module, self.address) == (parent, module, address)
    }
}

impl Recent {
    /// The node of this frame called from `parent`; none where there is no room.
    #[inline]
    pub fn intern(&mut self, parent: u32, module: u32, address: u64) -> Option<u32> {
        let key = draw::mix(address ^ u64::from(parent) << 40 ^ u64::from(module) << 20) as usize
            ^ (parent as usize).wrapping_mul(0x9e37_79b1);
        let set = &mut self.0[key >> 7 & (SETS - 1)];
        if !set[0].is(parent, module, address) {
            set.swap(0, 1);
            if !set[0].is(parent, module, address) {
                let node = look_up(shared::get()?, key, parent, module, address)?;
                set[0] = Found { address, parent, module, node };
            }
        }
        Some(set[0].node)
    }
}

fn look_up(shared: Shared, key: usize, parent: u32, module: u32, address: u64) -> Option<u32> {
    table::intern(
        shared.node_slots(),
        key as u64,
        |node| is_same(shared.node(node), parent, module, address),
        || {
            let node = make(shared.header())?;
            write(shared.node(node), parent, module, address);
            Some(node)
        },
    )
}

/// The next node that is not in use.
fn make(header: &Header) -> Option<u32> {
    let last = header.nodes.load(Ordering::Relaxed) + 1 >= NODES as u64;
    if last {
        return None;
    }
    let node = header.nodes.fetch_add(1, Ordering::Relaxed) + 1;
    (node < NODES as u64).then_some(node as u32)
}

fn write(node: &Node, parent: u32, module: u32, address: u64) {
    node.parent.store(parent, Ordering::Relaxed);
    node.module.store(module, Ordering::Relaxed);
    node.address.store(address, Ordering::Relaxed);
}

fn is_same(node: &Node, parent: u32, module: u32, address: u64) -> bool {
    node.parent.load(Ordering::Relaxed) == parent
        && node.module.load(Ordering::Relaxed) == module
        && node.address.load(Ordering::Relaxed) == address
}
