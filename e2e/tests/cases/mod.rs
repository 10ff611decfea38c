//! The cases by what they are about.

pub(crate) mod admit;
pub(crate) mod chart;
pub(crate) mod door;
pub(crate) mod figures;
pub(crate) mod image;
pub(crate) mod mirrors;
pub(crate) mod missing;
pub(crate) mod monitoring;
pub(crate) mod nodes;
pub(crate) mod outside;
pub(crate) mod plain;
pub(crate) mod policy;
pub(crate) mod pull;
pub(crate) mod quickstart;
pub(crate) mod remove;
pub(crate) mod repair;
