//! The cases by what they are about.

pub(crate) mod plain;
