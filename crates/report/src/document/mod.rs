//! The Markdown reports of the phases. Each states its results first, then shows the tables.

mod calls;
mod component;
mod cross_reference;
mod heap_section;
mod line;
mod macro_;
mod parts;
mod system;
mod threads;

pub use component::component_report;
pub use cross_reference::cross_reference_report;
pub use line::line_report;
pub use macro_::macro_report;

pub use system::system_report;
