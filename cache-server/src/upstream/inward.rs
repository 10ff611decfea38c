//! Addresses inside the network, and a resolver that never leads to one. A name is judged by what it resolves to, at the
//! moment of the connection: nothing can change in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why a name is not connected to.
#[derive(Debug, thiserror::Error)]
#[error("failed to find a public address of {name}: all of them are inside the network")]
pub(super) struct Inward {
    name: String,
}

/// Resolves names as the system does, and leaves out the addresses inside the network.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutwardResolver;

impl Resolve for OutwardResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let outward: Vec<SocketAddr> =
                found.filter(|address| !is_inward(address.ip())).collect();
            if outward.is_empty() {
                let name = name.as_str().to_owned();
                return Err(Inward { name }.into());
            }
            let addresses: Addrs = Box::new(outward.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether a failure has its cause here.
pub(super) fn is_refusal(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<Inward>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Whether the address is not one of the public internet.
pub(super) fn is_inward(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_inward_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| is_inward_v6(v6), is_inward_v4),
    }
}

fn is_inward_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_multicast()
        || a == 0
        // Shared address space of carriers, and of some clouds' metadata.
        || (a == 100 && (b & 0xc0) == 64)
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (b & 0xfe) == 18)
        || a >= 240
}

fn is_inward_v6(v6: Ipv6Addr) -> bool {
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_unique_local()
        || v6.is_unicast_link_local()
        || v6.is_multicast()
        // Site-local, long out of use.
        || (v6.segments()[0] & 0xffc0) == 0xfec0
}

/// The IPv4 address that stands in an IPv6 address: mapped, compatible, NAT64 or 6to4.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = v6.octets();
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => Some(Ipv4Addr::new(a, b, c, d)),
        [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_is_told_from_outside() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
        ] {
            assert!(is_inward(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(!is_inward(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_resolved() {
        let Err(error) = OutwardResolver.resolve("localhost".parse().unwrap()).await else {
            unreachable!("localhost is inside");
        };
        assert!(error.is::<Inward>(), "{error}");
    }
}
