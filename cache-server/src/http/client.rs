//! Who asks, and over what connection.

use std::net::IpAddr;
use std::sync::Arc;

use super::sendfile::Slot;
use super::tally::Tally;
use super::traffic::Traffic;

/// The client's end of a connection, as far as answers depend on it.
#[derive(Debug)]
pub struct Client {
    pub address: IpAddr,
    /// There only where files can be sent without reading them: in clear text.
    pub slot: Option<Slot>,
    pub traffic: Traffic,
    /// Whether it showed a certificate that the authority of `static.yaml` made.
    pub certified: bool,
    /// Here, so that a request shares this alone, with its connection and no other.
    pub tally: Arc<Tally>,
}

/// A request that runs until this is dropped.
#[derive(Debug)]
pub struct Running(Arc<Client>);

impl Client {
    pub fn begin(self: &Arc<Self>) -> Running {
        self.traffic.begin();
        Running(self.clone())
    }
}

impl Running {
    pub fn client(&self) -> &Client {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.traffic.end();
    }
}
