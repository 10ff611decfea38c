//! The cases by what they are about.

pub(crate) mod image;
pub(crate) mod plain;
