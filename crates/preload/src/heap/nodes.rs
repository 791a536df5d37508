//! Native stacks as a tree in shared memory: each distinct frame called from a distinct stack is there once.

use core::sync::atomic::{AtomicU32, Ordering};

use super::draw;
use super::format::{Header, NODE_SLOTS, NODES, Node};
use super::shared::{self, Shared};

/// Slots that are tried before the table counts as full.
const PROBES: usize = 64;

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
    let found = search(shared, key, parent, module, address)?;
    recent.store(found, Ordering::Release);
    Some(found)
}

/// As [`intern`], in the hash table.
fn search(shared: Shared, key: usize, parent: u32, module: u32, address: u64) -> Option<u32> {
    let mut own = 0;
    for probe in 0..PROBES {
        let slot = shared.node_slot((key + probe) & (NODE_SLOTS - 1));
        let mut found = slot.load(Ordering::Acquire);
        if found == 0 {
            if own == 0 {
                own = make(shared.header())?;
                write(shared.node(own), parent, module, address);
            }
            match slot.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(own),
                Err(others) => found = others,
            }
        }
        // A node that another thread made for the same frame meanwhile is taken, and the own one wasted.
        if is_same(shared.node(found), parent, module, address) {
            return Some(found);
        }
    }
    None
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
