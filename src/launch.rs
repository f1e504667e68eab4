//! The parent's side of a container.

mod foreground;
mod relay;
mod signals;
mod terminal;
