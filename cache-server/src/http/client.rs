//! Who asks, and over what connection.

use std::net::IpAddr;
use std::sync::Arc;

use super::sendfile::Slot;
use super::traffic::Traffic;

/// The client's end of a connection, as far as answers depend on it.
#[derive(Debug)]
pub struct Client {
    pub address: IpAddr,
    /// There only where files can be sent without reading them: in clear text.
    pub slot: Option<Slot>,
    pub traffic: Arc<Traffic>,
    /// Whether it showed a certificate that the authority of `static.yaml` made.
    pub certified: bool,
}
