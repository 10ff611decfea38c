//! A real single-node Kubernetes, made from packages, for the demo and the node tests.
//!
//! [`Tools`] builds and installs what the node is made of; [`namespaces`] moves the process into network, mount and process
//! namespaces of its own; there [`Node`] starts the cluster and [`Upstream`] a registry to pull from, with [`images`] made
//! without Docker. [`World`] holds all of them for the cases that [`runner`] runs; [`Registries`] is what clients need that run
//! without a node: an upstream and a cache server. [`Cluster`] is a control plane without a node, on which an operator runs
//! as a process. Nothing outside those namespaces is touched, except the cache directory and,
//! when something is missing, the Debian packages of the machine.

pub mod authority;
pub mod balancer;
pub mod cache_server;
pub mod cluster;
pub mod command;
pub mod component;
mod condition;
pub mod conformance;
pub mod flux;
pub mod images;
pub mod larder;
pub mod mirror;
pub mod namespaces;
pub mod node;
pub mod olareg;
pub mod programs;
pub mod promtool;
pub mod registries;
pub mod runner;
pub mod splitter;
pub mod tools;
pub mod upstream;
pub mod versitygw;
pub mod wait;
pub mod world;

pub use cluster::Cluster;
pub use condition::condition;
pub use node::Node;
pub use registries::Registries;
pub use tools::Tools;
pub use upstream::Upstream;
pub use world::World;

/// Where the words of a long step go: one call a line.
pub type Progress<'a> = &'a dyn Fn(&str);
