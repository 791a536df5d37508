//! Native stacks as a tree in shared memory: each distinct frame called from a distinct stack is there once.

use core::sync::atomic::{AtomicU32, Ordering};

use super::draw;
use super::format::{Header, NODES, Node};
use super::shared;
use crate::table;

/// Nodes that were found lately: a power of two of them. The hash table is so large that nearly each access to it misses the
/// caches, those of addresses too; here a few pages serve for most.
const RECENT: usize = 1 << 12;

static RECENT_NODES: [AtomicU32; RECENT] = [const { AtomicU32::new(0) }; RECENT];

/// The node of this frame called from `parent`; none where there is no room.
pub fn intern(parent: u32, module: u32, address: u64) -> Option<u32> {
    let shared = shared::get()?;
    let key = draw::mix(address ^ u64::from(parent) << 40 ^ u64::from(module) << 20) as usize
        ^ (parent as usize).wrapping_mul(0x9e37_79b1);
    let recent = &RECENT_NODES[key >> 7 & (RECENT - 1)];
    let node = recent.load(Ordering::Acquire);
    if node != 0 && is_same(shared.node(node), parent, module, address) {
        return Some(node);
    }
    let found = table::intern(
        shared.node_slots(),
        key as u64,
        |node| is_same(shared.node(node), parent, module, address),
        || {
            let node = make(shared.header())?;
            write(shared.node(node), parent, module, address);
            Some(node)
        },
    )?;
    recent.store(found, Ordering::Release);
    Some(found)
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
