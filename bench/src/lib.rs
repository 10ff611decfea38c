//! What both benchmarks share: their page.

pub mod section;
