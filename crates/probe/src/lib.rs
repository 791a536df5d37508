//! What a target may link: step marks for simprof at a few nanoseconds each.
