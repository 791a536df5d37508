//! The agent-based reference simulation.
