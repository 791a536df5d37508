//! Native stacks as a tree in shared memory: one node for each distinct frame called from a distinct stack.

use core::sync::atomic::Ordering;

use super::byte_sampling;
use super::format::Node;
use super::shared;
use crate::{lookup_cache, table};

/// A frame and the node that it was called from: parent, module, address.
type Called = (u32, u32, u64);

/// Cache of recently found nodes, used by one thread at a time.
pub type Recent = lookup_cache::LookupCache<Called, 512>;

/// Returns the node of this frame called from `parent`. `None` if the table is full.
#[inline]
pub fn intern(recent: &mut Recent, parent: u32, module: u32, address: u64) -> Option<u32> {
    let key = byte_sampling::mix(address ^ u64::from(parent) << 40 ^ u64::from(module) << 20)
        as usize
        ^ (parent as usize).wrapping_mul(0x9e37_79b1);
    // Neighbours in the table have neighbouring hashes in the cache.
    let hash = key as u64 >> 7;
    recent.get(hash, &(parent, module, address), || look_up(key, parent, module, address))
}

fn look_up(key: usize, parent: u32, module: u32, address: u64) -> Option<u32> {
    let shared = shared::get()?;
    table::intern(
        |generation| shared.node_slots(generation),
        key as u64,
        |node| shared.node(node).is_some_and(|node| is_same(node, parent, module, address)),
        || {
            let (number, node) =
                table::reserve(&shared.header().nodes, |number| shared.node(number))?;
            write(node, parent, module, address);
            Some(number)
        },
    )
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
