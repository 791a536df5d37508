//! The tables of the database and their indexes.
//!
//! In tables with rows for each step, the primary key begins with the step. The rows of a step are thus adjacent and inserted in key
//! order, and the primary key serves as the index on step. The indexes on agents would cause random writes in every step, so they
//! are created at the end. In the database of a killed run they are missing.

/// The tables. Referenced tables come first.
pub const TABLES: [&str; 9] = [
    "simulations",
    "agents",
    "agent_states",
    "resource_states",
    "agent_actions",
    "interactions",
    "simulation_steps",
    "reproduction_events",
    "health_incidents",
];

/// SQL that creates the tables.
pub(crate) const CREATE: &str = "
CREATE TABLE simulations (
    simulation_id INTEGER PRIMARY KEY,
    seed TEXT NOT NULL,
    parameters TEXT NOT NULL,
    steps_planned INTEGER NOT NULL,
    steps_run INTEGER,
    state_hash TEXT
);
CREATE TABLE agents (
    agent_id INTEGER PRIMARY KEY,
    simulation_id INTEGER NOT NULL REFERENCES simulations,
    agent_type TEXT NOT NULL,
    birth_step INTEGER NOT NULL,
    death_step INTEGER,
    death_cause TEXT,
    parent_id INTEGER REFERENCES agents,
    generation INTEGER NOT NULL,
    x REAL NOT NULL,
    y REAL NOT NULL,
    start_resource REAL NOT NULL,
    start_health REAL NOT NULL,
    gather_multiplier REAL NOT NULL,
    share_weight REAL NOT NULL,
    attack_weight REAL NOT NULL
);
CREATE TABLE agent_states (
    step INTEGER NOT NULL,
    agent_id INTEGER NOT NULL REFERENCES agents,
    x REAL NOT NULL,
    y REAL NOT NULL,
    orientation REAL NOT NULL,
    resource REAL NOT NULL,
    health REAL NOT NULL,
    defending INTEGER NOT NULL,
    starvation INTEGER NOT NULL,
    total_reward REAL NOT NULL,
    PRIMARY KEY (step, agent_id)
) WITHOUT ROWID;
CREATE TABLE resource_states (
    step INTEGER NOT NULL,
    resource_id INTEGER NOT NULL,
    x REAL NOT NULL,
    y REAL NOT NULL,
    amount REAL NOT NULL,
    PRIMARY KEY (step, resource_id)
) WITHOUT ROWID;
CREATE TABLE agent_actions (
    step INTEGER NOT NULL,
    agent_id INTEGER NOT NULL REFERENCES agents,
    action TEXT NOT NULL,
    succeeded INTEGER NOT NULL,
    target_id INTEGER,
    amount REAL NOT NULL,
    resource_before REAL NOT NULL,
    resource_after REAL NOT NULL,
    reward REAL NOT NULL,
    details TEXT,
    PRIMARY KEY (step, agent_id)
) WITHOUT ROWID;
CREATE TABLE interactions (
    step INTEGER NOT NULL,
    source_id INTEGER NOT NULL REFERENCES agents,
    target_id INTEGER NOT NULL REFERENCES agents,
    interaction TEXT NOT NULL,
    amount REAL NOT NULL,
    PRIMARY KEY (step, source_id)
) WITHOUT ROWID;
CREATE TABLE simulation_steps (
    step INTEGER PRIMARY KEY,
    living INTEGER NOT NULL,
    system_agents INTEGER NOT NULL,
    independent_agents INTEGER NOT NULL,
    control_agents INTEGER NOT NULL,
    births INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    actions INTEGER NOT NULL,
    actions_succeeded INTEGER NOT NULL,
    total_resources REAL NOT NULL,
    average_resource REAL NOT NULL,
    average_health REAL NOT NULL,
    average_reward REAL NOT NULL
);
CREATE TABLE reproduction_events (
    step INTEGER NOT NULL,
    parent_id INTEGER NOT NULL REFERENCES agents,
    child_id INTEGER REFERENCES agents,
    resource_before REAL NOT NULL,
    resource_after REAL NOT NULL,
    failure TEXT,
    PRIMARY KEY (step, parent_id)
) WITHOUT ROWID;
CREATE TABLE health_incidents (
    step INTEGER NOT NULL,
    number INTEGER NOT NULL,
    agent_id INTEGER NOT NULL REFERENCES agents,
    health_before REAL NOT NULL,
    health_after REAL NOT NULL,
    cause TEXT NOT NULL,
    source_id INTEGER REFERENCES agents,
    PRIMARY KEY (step, number)
) WITHOUT ROWID;
";

/// SQL that creates the indexes on agents and resources.
pub(crate) const INDEX: &str = "
CREATE INDEX IF NOT EXISTS agent_states_by_agent ON agent_states (agent_id);
CREATE INDEX IF NOT EXISTS resource_states_by_resource ON resource_states (resource_id);
CREATE INDEX IF NOT EXISTS agent_actions_by_agent ON agent_actions (agent_id);
CREATE INDEX IF NOT EXISTS interactions_by_source ON interactions (source_id);
CREATE INDEX IF NOT EXISTS interactions_by_target ON interactions (target_id);
CREATE INDEX IF NOT EXISTS reproduction_events_by_parent ON reproduction_events (parent_id);
CREATE INDEX IF NOT EXISTS reproduction_events_by_child ON reproduction_events (child_id);
CREATE INDEX IF NOT EXISTS health_incidents_by_agent ON health_incidents (agent_id);
";
