//! The reports that people read, as Markdown: each states its results first, then shows the figures.

mod calls;
mod component;
mod cross_reference;
mod line;
mod macro_;
mod memory;
mod parts;
mod system;

pub use component::component_report;
pub use cross_reference::cross_reference_report;
pub use line::line_report;
pub use macro_::macro_report;
pub use memory::memory_section;
pub use system::system_report;
