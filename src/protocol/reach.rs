//! How far an address can be reached from. A document may name only addresses that can be reached from at least as far as
//! the address that it came from. Otherwise a public server could make onegrant send requests inside of the network that it
//! runs in, for example to the metadata service of a cloud (RFC 9728 section 7.7).

use crate::error::{Failure, Kind};
use crate::text::printable;
// From `core`: addresses as values, no sockets.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// The class of an address. The order is that of the rule: a document from an address of one class may name addresses of
/// this class and of smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// From everywhere.
    Public,
    /// From within a network. All addresses that the registries of special addresses (RFC 6890) do not call global are
    /// here, if no other class has them.
    Private,
    /// From the same link. The metadata services of clouds are here.
    LinkLocal,
    /// From this machine only.
    Loopback,
}

impl Reach {
    /// The class of this address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_ipv4(address),
            IpAddr::V6(address) => Self::of_ipv6(address),
        }
    }

    /// The class of a host, as far as its text shows it. A name counts as public: only a look-up can tell more.
    pub fn of_host(host: &str) -> Self {
        if let Ok(address) = host.parse() {
            return Self::of(address);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let last = host.rsplit('.').next().unwrap_or(host);
        // No name ends in a number. These are other ways to write an IPv4 address: `127.1`, `0x7f.1`, `2130706433`.
        let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
        // RFC 6761 section 6.3.
        if is_number || last.eq_ignore_ascii_case("localhost") { Self::Loopback } else { Self::Public }
    }

    fn of_ipv4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // 0.0.0.0 connects to this machine.
            [0 | 127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            // RFC 1918, and the shared addresses of RFC 6598.
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            // Protocol assignments, benchmarks, documentation, multicast, reserved.
            [192, 0, 0 | 2, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [224..=255, ..] => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_ipv6(address: Ipv6Addr) -> Self {
        match address.segments() {
            // The IPv4 address in it counts: compatible and mapped addresses (RFC 4291 section 2.5.5; `::` and `::1` are
            // 0.0.0.0 and 0.0.0.1 here), those of a translator (RFC 6052 section 2.1), 6to4 (RFC 3056 section 2).
            [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
            | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            | [0x2002, high, low, ..] => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                Self::of_ipv4(Ipv4Addr::new(a, b, c, d))
            }
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            // Protocol assignments (2001::/23), documentation.
            [0x2001, ..=0x1ff | 0xdb8, ..] | [0x3fff, ..=0xfff, ..] => Self::Private,
            // Global unicast addresses (RFC 4291 section 2.4).
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Private,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Loopback => "loopback",
        })
    }
}

/// The failure if the address of `url` has the class `reach`, and a document from an address of the class `limit` named it.
pub fn refusal(url: &str, reach: Reach, limit: Reach) -> Failure {
    let url = printable(url);
    let message =
        format!("cannot use {url}: its address is {reach}, and a server with a {limit} address named it");
    Failure::new(Kind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn each_address_has_the_class_of_the_network_that_it_is_for() {
        let cases = [
            (Reach::Public, &[
                "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
                "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255",
                "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
                "2000::", "2001:200::1", "2001:db7::1", "2001:db9::1", "2606:4700::1111", "3ffe::1", "3fff:1000::1",
                "::ffff:1.1.1.1", "::1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1",
            ][..]),
            (Reach::Private, &[
                "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "172.16.0.0", "172.31.255.255",
                "192.0.0.1", "192.0.2.1", "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255",
                "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
                "fc00::", "fd12:3456::1", "fdff:ffff::1", "fec0::1", "ff02::1", "100::1", "2001::1", "2001:1ff::1",
                "2001:db8::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "64:ff9b:1::1.1.1.1",
                "::ffff:10.0.0.1", "::192.168.0.1", "64:ff9b::172.16.0.1", "2002:a00:1::1",
            ]),
            (Reach::LinkLocal, &[
                "169.254.0.0", "169.254.169.254", "169.254.255.255", "fe80::1", "febf:ffff::1",
                "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1",
            ]),
            (Reach::Loopback, &[
                "127.0.0.1", "127.255.255.255", "0.0.0.0", "0.255.255.255", "::1", "::",
                "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::1",
            ]),
        ];
        for (reach, addresses) in cases {
            for address in addresses {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
                assert_eq!(Reach::of_host(address), reach, "{address} as a host");
            }
        }
    }

    /// Every network of 16 bits, with an address at its beginning, inside, and at its end.
    #[test]
    fn the_standard_library_knows_no_special_address_that_is_called_public() {
        for high in 0..=u16::MAX {
            for low in [0, 0x0201, 0x6407, 0x7107, u16::MAX] {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                let ipv4 = Ipv4Addr::new(a, b, c, d);
                let ipv6 = Ipv6Addr::new(high, low, 0, 0, 0, 0, 0, 1);
                let reach = Reach::of(ipv4.into());
                assert_eq!(ipv4.is_loopback(), reach == Reach::Loopback && a != 0, "{ipv4}");
                assert_eq!(ipv4.is_link_local(), reach == Reach::LinkLocal, "{ipv4}");
                let is_special = ipv4.is_private() || ipv4.is_documentation() || ipv4.is_multicast();
                assert!(!is_special || reach == Reach::Private, "{ipv4}");
                assert!(!(ipv4.is_unspecified() || ipv4.is_broadcast()) || reach > Reach::Public, "{ipv4}");
                let reach = Reach::of(ipv6.into());
                assert_eq!(ipv6.is_unicast_link_local(), reach == Reach::LinkLocal, "{ipv6}");
                assert!(
                    !(ipv6.is_unique_local() || ipv6.is_multicast()) || reach == Reach::Private,
                    "{ipv6}"
                );
            }
        }
    }

    #[test]
    fn the_classes_are_ordered_as_the_rule_needs_it() {
        assert!(Reach::Public < Reach::Private);
        assert!(Reach::Private < Reach::LinkLocal);
        assert!(Reach::LinkLocal < Reach::Loopback);
    }

    #[test]
    fn a_host_that_is_this_machine_by_its_text_is_no_name() {
        for host in [
            "localhost",
            "LocalHost",
            "localhost.",
            "as.localhost",
            "127.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
        ] {
            assert_eq!(Reach::of_host(host), Reach::Loopback, "{host}");
        }
        for host in
            ["as.example", "localhost.example", "notlocalhost", "3com.example", "as.1e100", "as.xn--p1ai"]
        {
            assert_eq!(Reach::of_host(host), Reach::Public, "{host}");
        }
    }
}
