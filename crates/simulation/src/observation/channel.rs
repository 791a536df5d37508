//! The thirteen channels of an observation, and sets of channels.

use crate::kinds::kinds;

kinds! {
    /// A channel of an observation. Each has its own plane.
    Channel, "channel" {
        /// Health of the agent itself, 0 to 1, in the centre.
        OwnHealth = "own_health",
        /// Health of allies, 0 to 1. With several in a cell, the largest.
        AllyHealth = "ally_health",
        /// Health of enemies, 0 to 1. With several in a cell, the largest.
        EnemyHealth = "enemy_health",
        /// Sum of the amounts of resources, each divided by the largest amount.
        Resources = "resources",
        /// 1 outside the world.
        Obstacles = "obstacles",
        /// Cost of the terrain, 0 to 1.
        TerrainCost = "terrain_cost",
        /// 1 inside the visibility disk.
        Visibility = "visibility",
        /// 1 in visible empty cells. Decays by the factor 0.98 per step.
        KnownEmpty = "known_empty",
        /// Damage divided by the attack strength. Decays by the factor 0.85 per step.
        DamageHeat = "damage_heat",
        /// 1 where an agent has moved away. Decays by the factor 0.90 per step.
        Trails = "trails",
        /// 1 where an ally has shared. Decays by the factor 0.92 per step.
        AllySignal = "ally_signal",
        /// 1 at the nearest resource that is not empty. If it is outside the window, 1 at the border in its direction.
        Goal = "goal",
        /// 1 where a resource was seen. Does not decay.
        Landmarks = "landmarks",
    }
}

impl Channel {
    /// Number of channels.
    pub const COUNT: usize = 13;

    /// Returns the factor by which a remembered plane decays per step. `None` for channels that are not remembered.
    #[must_use]
    pub const fn decay(self) -> Option<f32> {
        match self {
            Self::KnownEmpty => Some(0.98),
            Self::DamageHeat => Some(0.85),
            Self::Trails => Some(0.90),
            Self::AllySignal => Some(0.92),
            Self::Landmarks => Some(1.0),
            _ => None,
        }
    }
}

/// A set of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelSet(u16);

impl ChannelSet {
    /// Returns the set of all channels.
    #[must_use]
    pub const fn all() -> Self {
        Self((1 << Channel::COUNT) - 1)
    }

    /// Returns the empty set.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// Returns this set with `channel` added.
    #[must_use]
    pub const fn with(self, channel: Channel) -> Self {
        Self(self.0 | 1 << channel as u16)
    }

    /// Returns this set with `channel` removed.
    #[must_use]
    pub const fn without(self, channel: Channel) -> Self {
        Self(self.0 & !(1 << channel as u16))
    }

    /// Returns whether a channel is in the set.
    #[must_use]
    pub const fn has(self, channel: Channel) -> bool {
        self.0 & 1 << channel as u16 != 0
    }
}

impl FromIterator<Channel> for ChannelSet {
    fn from_iter<I: IntoIterator<Item = Channel>>(channels: I) -> Self {
        channels.into_iter().fold(Self::none(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_contains_the_added_channels() {
        let set: ChannelSet = [Channel::Goal, Channel::Trails].into_iter().collect();
        let held: Vec<Channel> =
            Channel::ALL.iter().copied().filter(|&channel| set.has(channel)).collect();
        assert_eq!(held, [Channel::Trails, Channel::Goal]);
        assert_eq!(ChannelSet::all().without(Channel::Goal).with(Channel::Goal), ChannelSet::all());
        assert_eq!(Channel::ALL.len(), Channel::COUNT);
    }
}
