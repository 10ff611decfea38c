//! Sends files from the page cache to a socket without reading them, through an HTTP library that only knows bytes.
//!
//! A body gives out a [`Region`]: a buffer that shows the library a marker, pages of zeros that are never sent. At the same
//! moment it puts a [`Job`] into the [`Slot`] of its connection. The library passes the marker to [`Connection`], which knows
//! it by its address and has the kernel send the job's file instead. The marker must never reach a client: whatever comes
//! other than expected while a job waits fails the connection.

pub mod connection;
pub mod data;
pub mod job;
pub mod slot;

pub use connection::Connection;
pub use data::{Data, Region};
pub use job::Job;
pub use slot::Slot;

/// Regions below this are read and written: a system call more costs as much as their copy.
pub const LEAST: u64 = 64 * 1024;
