//! The thirteen channels and sets of them.

use crate::kinds::kinds;

kinds! {
    /// One plane of an observation.
    Channel, "channel" {
        /// The agent's own health at the centre, 0 to 1.
        OwnHealth = "own_health",
        /// Health of allies, 0 to 1; the most where several are in a cell.
        AllyHealth = "ally_health",
        /// Health of enemies likewise.
        EnemyHealth = "enemy_health",
        /// Sum of what resources hold, each as a share of the most.
        Resources = "resources",
        /// 1 outside the world.
        Obstacles = "obstacles",
        /// Cost of the terrain, 0 to 1.
        TerrainCost = "terrain_cost",
        /// 1 inside the visibility disk.
        Visibility = "visibility",
        /// 1 where a visible cell is empty; decays by 0.98 a step.
        KnownEmpty = "known_empty",
        /// Damage as a share of the attack strength; decays by 0.85.
        DamageHeat = "damage_heat",
        /// 1 where somebody left; decays by 0.90.
        Trails = "trails",
        /// 1 where an ally shared; decays by 0.92.
        AllySignal = "ally_signal",
        /// 1 at the nearest resource that holds something, or at the border of the window on the way to it.
        Goal = "goal",
        /// 1 where a resource was seen; stays.
        Landmarks = "landmarks",
    }
}

impl Channel {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// The factor by which a remembered plane shrinks each step; `None` for planes made anew.
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

/// Which channels are produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelSet(u16);

impl ChannelSet {
    /// Every channel.
    #[must_use]
    pub const fn all() -> Self {
        Self((1 << Channel::COUNT) - 1)
    }

    /// No channel.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// This set and a channel.
    #[must_use]
    pub const fn with(self, channel: Channel) -> Self {
        Self(self.0 | 1 << channel as u16)
    }

    /// This set without a channel.
    #[must_use]
    pub const fn without(self, channel: Channel) -> Self {
        Self(self.0 & !(1 << channel as u16))
    }

    /// Whether a channel is in the set.
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
    fn a_set_holds_what_was_put_in() {
        let set: ChannelSet = [Channel::Goal, Channel::Trails].into_iter().collect();
        let held: Vec<Channel> =
            Channel::ALL.iter().copied().filter(|&channel| set.has(channel)).collect();
        assert_eq!(held, [Channel::Trails, Channel::Goal]);
        assert_eq!(ChannelSet::all().without(Channel::Goal).with(Channel::Goal), ChannelSet::all());
        assert_eq!(Channel::ALL.len(), Channel::COUNT);
    }
}
