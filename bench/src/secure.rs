//! TLS for the servers, and a client that speaks it. What it costs the client is not what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::length;

const NAME: &str = "127.0.0.1";
const LONGEST_HEAD: usize = 4096;

/// A certificate for loopback, in files, and who trusts it.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    trust: Arc<ClientConfig>,
}

impl Pair {
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        // Fails if one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().context("failed to make a key")?;
        let made = CertificateParams::new(vec![NAME.to_owned()])
            .and_then(|parameters| parameters.self_signed(&key))
            .context("failed to make a certificate")?;
        let (certificate, key_file) =
            (directory.join("certificate.pem"), directory.join("key.pem"));
        std::fs::write(&certificate, made.pem())
            .and_then(|()| std::fs::write(&key_file, key.serialize_pem()))
            .context("failed to write a certificate")?;
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(made))
            .context("failed to trust a certificate")?;
        let trust = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            certificate,
            key: key_file,
            trust: Arc::new(trust),
        })
    }
}

/// One connection that is kept.
#[derive(Debug)]
pub(crate) struct SecureClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl SecureClient {
    pub(crate) fn connect(address: SocketAddr, pair: &Pair) -> Result<Self> {
        let socket = TcpStream::connect(address).context("failed to connect")?;
        let name = ServerName::try_from(NAME).context("failed to read a name")?;
        let session = ClientConnection::new(pair.trust.clone(), name)
            .context("failed to begin a TLS connection")?;
        Ok(Self {
            stream: StreamOwned::new(session, socket),
            buffer: vec![0; 256 * 1024],
        })
    }

    /// Gets something whole, throws it away, and returns its length.
    pub(crate) fn get(&mut self, path: &str) -> Result<u64> {
        let (bytes, begun) = self.ask(path)?;
        let mut left = bytes.saturating_sub(begun);
        while left > 0 {
            left -= self.read_some(usize::try_from(left).unwrap_or(usize::MAX))? as u64;
        }
        Ok(bytes)
    }

    /// Reads some of the body, and so many bytes at most. There must be some left.
    pub(crate) fn read_some(&mut self, most: usize) -> Result<usize> {
        self.read(0, most.min(self.buffer.len()))
    }

    /// Asks for something, and returns its length, and what of it came with the head.
    pub(crate) fn ask(&mut self, path: &str) -> Result<(u64, u64)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream
            .write_all(request.as_bytes())
            .context("failed to send a request")?;
        let mut read = 0;
        let end = loop {
            ensure!(read < LONGEST_HEAD, "{path}: the head is too long");
            read += self.read(read, LONGEST_HEAD)?;
            let found = self.buffer[..read]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
        };
        let bytes = length(&self.buffer[..end]).with_context(|| format!("{path}: a bad answer"))?;
        Ok((bytes, (read - end) as u64))
    }

    fn read(&mut self, from: usize, to: usize) -> Result<usize> {
        let count = self
            .stream
            .read(&mut self.buffer[from..to])
            .context("failed to read an answer")?;
        ensure!(count > 0, "the server closed without an answer");
        Ok(count)
    }
}
