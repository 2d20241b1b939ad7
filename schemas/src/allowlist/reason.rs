//! Why an item of the allowlist cannot be saved (R2.5), in words that say what to do instead.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// What is wrong with one item, to be read after its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadItemReason {
    /// A character that nobody sees, as pasting brings along.
    #[error("holds the invisible character U+{:04X}; delete the item and type it again", u32::from(*.found))]
    Invisible {
        /// The first of them.
        found: char,
    },
    /// Something else between items, such as a full-width comma.
    #[error("holds `{found}`; separate items with new lines, commas or spaces")]
    Separator {
        /// The first of them.
        found: char,
    },
    /// IPv6, IPv4-mapped too.
    #[error("is IPv6, which is not supported; enter a public IPv4 address")]
    Ipv6,
    /// An address with a port.
    #[error("has a port; enter the address alone")]
    Port,
    /// A range from one address to another, or with wildcards.
    #[error("must be written as a CIDR range, such as 198.51.100.0/24")]
    RangeNotation,
    /// A host name, a word, anything else.
    #[error("is not an IPv4 address; enter one such as 203.0.113.4, or a range such as 198.51.100.0/24")]
    NotAnAddress,
    /// Numbers, but not four with a dot between each two.
    #[error("must be four numbers with dots between them, such as 203.0.113.4")]
    Octets,
    /// A number that is no byte.
    #[error("has a number over 255; check each of the four")]
    OctetOver255,
    /// `010` is ten here and eight there.
    #[error("has leading zeros, which some programs read as octal; leave them out")]
    LeadingZeros,
    /// A netmask after the slash.
    #[error("has a netmask; enter the range with a prefix, such as 198.51.100.0/24")]
    Netmask,
    /// Not a prefix after the slash.
    #[error("must have a whole number from 0 to 32 after the slash, without leading zeros")]
    Prefix,
    /// An address or range inside one that is not public.
    #[error("is {kind} ({within}), not public; enter the public address that your requests come from")]
    NonPublic {
        /// What it is.
        kind: NonPublic,
        /// The range it lies in.
        within: Ipv4Net,
    },
    /// A range of which a part is not public.
    #[error("overlaps {with}, which is {kind}, not public; enter a smaller range")]
    Overlaps {
        /// What the first such part is.
        kind: NonPublic,
        /// That part.
        with: Ipv4Net,
    },
    /// A range that begins elsewhere than the address says. Both suggestions can be saved.
    #[error("has host bits set; enter {network} for the range or {address} for the one address")]
    HostBits {
        /// The range of that size.
        network: Ipv4Net,
        /// The address.
        address: Ipv4Addr,
    },
}

impl BadItemReason {
    /// The stable code, never reused.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invisible { .. } => "invisible_character",
            Self::Separator { .. } => "separator",
            Self::Ipv6 => "ipv6",
            Self::Port => "port",
            Self::RangeNotation => "range_notation",
            Self::NotAnAddress => "not_an_address",
            Self::Octets => "octets",
            Self::OctetOver255 => "octet_over_255",
            Self::LeadingZeros => "leading_zeros",
            Self::Netmask => "netmask",
            Self::Prefix => "prefix",
            Self::NonPublic { kind, .. } => kind.code(),
            Self::Overlaps { .. } => "overlap",
            Self::HostBits { .. } => "host_bits",
        }
    }
}

/// What an address is that is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NonPublic {
    /// RFC 791.
    #[error("\"this network\"")]
    ThisNetwork,
    /// RFC 1918.
    #[error("private")]
    Private,
    /// RFC 6598.
    #[error("carrier-grade NAT")]
    CarrierGradeNat,
    /// RFC 1122.
    #[error("loopback")]
    Loopback,
    /// RFC 3927.
    #[error("link-local")]
    LinkLocal,
    /// RFC 6890.
    #[error("for protocol assignments")]
    ProtocolAssignments,
    /// RFC 5737, of which the source document uses the other two ranges as valid examples.
    #[error("for documentation")]
    Documentation,
    /// RFC 2544.
    #[error("for benchmarking")]
    Benchmarking,
    /// RFC 5771.
    #[error("multicast")]
    Multicast,
    /// RFC 1112, the broadcast address among them.
    #[error("reserved")]
    Reserved,
}

const fn range(a: u8, b: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix)
}

/// All that is refused, by address.
const NON_PUBLIC: [(Ipv4Net, NonPublic); 12] = [
    (range(0, 0, 8), NonPublic::ThisNetwork),
    (range(10, 0, 8), NonPublic::Private),
    (range(100, 64, 10), NonPublic::CarrierGradeNat),
    (range(127, 0, 8), NonPublic::Loopback),
    (range(169, 254, 16), NonPublic::LinkLocal),
    (range(172, 16, 12), NonPublic::Private),
    (range(192, 0, 24), NonPublic::ProtocolAssignments),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24), NonPublic::Documentation),
    (range(192, 168, 16), NonPublic::Private),
    (range(198, 18, 15), NonPublic::Benchmarking),
    (range(224, 0, 4), NonPublic::Multicast),
    (range(240, 0, 4), NonPublic::Reserved),
];

impl NonPublic {
    /// The stable code, never reused.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ThisNetwork => "this_network",
            Self::Private => "private",
            Self::CarrierGradeNat => "carrier_grade_nat",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::ProtocolAssignments => "protocol_assignments",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        }
    }

    /// Refuses what is not public, whole or in part.
    pub(super) fn check(network: Ipv4Net) -> Result<(), BadItemReason> {
        for (range, kind) in NON_PUBLIC {
            if range.contains(&network) {
                return Err(BadItemReason::NonPublic { kind, within: range });
            }
            if network.contains(&range) {
                return Err(BadItemReason::Overlaps { kind, with: range });
            }
        }
        Ok(())
    }
}

/// What an item that is no address or range looks like, when that tells more than where it went wrong.
pub(super) fn by_looks(item: &str) -> Option<BadItemReason> {
    let address = item.split('/').next().unwrap_or(item);
    if let Some(found) = item.chars().find(|c| invisible(*c)) {
        Some(BadItemReason::Invisible { found })
    } else if let Some(found) = item.chars().find(|c| separates_elsewhere(*c)) {
        Some(BadItemReason::Separator { found })
    } else if ipv6(address) {
        Some(BadItemReason::Ipv6)
    } else if address.split_once(':').is_some_and(|(before, _)| before.parse::<Ipv4Addr>().is_ok()) {
        Some(BadItemReason::Port)
    } else if range_notation(item) {
        Some(BadItemReason::RangeNotation)
    } else {
        None
    }
}

/// Controls, zero widths, marks of direction and of byte order.
fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What people separate items with in other places and scripts.
fn separates_elsewhere(c: char) -> bool {
    matches!(c, ';' | '|' | '，' | '、' | '；' | '｜' | '﹐' | '､' | '،' | '؛')
}

/// What looks like IPv6, well-formed or not: `::1`, `[::1]:443`, `fe80::1%eth0`, `::ffff:8.8.8.8`.
fn ipv6(address: &str) -> bool {
    let inside = address.strip_prefix('[').unwrap_or(address);
    let plain = inside.split([']', '%']).next().unwrap_or(inside);
    plain.bytes().filter(|byte| *byte == b':').count() >= 2
        && plain.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.')
}

/// `8.8.8.1-8.8.8.9`, `8.8.8.*`. A dash that follows no number is none between two.
fn range_notation(item: &str) -> bool {
    let dash = |c: char| matches!(c, '-' | '–' | '~');
    let digit = |c: char| c.is_ascii_digit();
    let between = item.split_once(dash).is_some_and(|(before, _)| before.ends_with(digit));
    (between || item.contains('*'))
        && item.contains(digit)
        && item.chars().all(|c| digit(c) || dash(c) || matches!(c, '.' | '/' | '*'))
}
