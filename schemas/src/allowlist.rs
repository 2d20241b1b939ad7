//! The IP allowlist (R2): from what people type to networks, and whether an address gets in.
//!
//! ```text
//! text ── split ──> item ── read ──> address and prefix ── public? host bits? ──> Ipv4Net
//!                     └──────────────── BadItem: where it stands, what to do ────> Faults
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

mod reason;

pub use reason::{BadItemReason, NonPublic};

/// Most networks in one list (R2.4).
pub const ITEMS_MAX: usize = 20;
/// Most bad items that are named one by one: more would not be read, and a body may hold half a million.
pub const LISTED_MAX: usize = 100;
/// Most characters of a bad item that are repeated, above the longest form of IPv6 with a prefix.
pub const ECHO_MAX: usize = 64;
/// How far different items are counted: enough to say how many to take out of any list that somebody wrote by hand.
pub const COUNTED_MAX: usize = 1_000;

/// One item that cannot be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadItem {
    /// As it was given, at most its first [`ECHO_MAX`] characters.
    pub text: String,
    /// Its place among all items, duplicates too, from 0.
    pub index: usize,
    /// Characters (Unicode scalar values, not bytes or UTF-16 units) before it in the text.
    pub offset: usize,
    /// Characters it has in the text, where `text` may have fewer.
    pub length: usize,
    /// What is wrong with it.
    pub reason: BadItemReason,
}

/// To be shown alone: `10.0.0.1` is private …
impl fmt::Display for BadItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.length > ECHO_MAX { "…" } else { "" };
        write!(f, "`{}{rest}` {}", self.text.escape_debug(), self.reason)
    }
}

/// Why a list was refused. Nothing of it may be saved (R2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The bad items in the order of the text, at most the first [`LISTED_MAX`].
    pub items: Vec<BadItem>,
    /// How many bad items there are besides those.
    pub unlisted: usize,
    /// How many different items there are, when that is more than [`ITEMS_MAX`]; [`COUNTED_MAX`] stands for that
    /// many or more. A good item counts once for each network, a bad one once for each text.
    pub too_many: Option<usize>,
}

/// One line for logs and for answers that have no list.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(count) = self.too_many {
            let more = if count >= COUNTED_MAX { " or more" } else { "" };
            write!(f, "must have at most {ITEMS_MAX} items, not {count}{more}")?;
        }
        let Some((first, others)) = self.items.split_first() else { return Ok(()) };
        if self.too_many.is_some() {
            f.write_str("; ")?;
        }
        write!(f, "item {} {first}", first.index.saturating_add(1))?;
        match others.len().saturating_add(self.unlisted) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// What makes two items the same (R2.4).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Distinct<'a> {
    /// `8.8.8.8` and `8.8.8.8/32` are one.
    Good(Ipv4Net),
    Bad(&'a str),
}

/// Reads a list as people type it (R2.4, R2.5): the networks in the order given, each once. A blank text is an empty
/// list.
///
/// Errors: every bad item, and whether there are too many (R2.6). Time is linear in the text but for a logarithm;
/// memory is bounded whatever the text.
pub fn parse(text: &str) -> Result<Vec<Ipv4Net>, Faults> {
    let mut networks = Vec::new();
    let mut faults = Faults::default();
    let mut distinct = BTreeSet::new();
    for (index, (offset, item)) in items(text).enumerate() {
        let read = read(item);
        let key = read.as_ref().map_or(Distinct::Bad(item), |network| Distinct::Good(*network));
        let new = distinct.len() < COUNTED_MAX && distinct.insert(key);
        match read {
            Ok(network) if new => networks.push(network),
            Ok(_) => {}
            Err(reason) if faults.items.len() < LISTED_MAX => {
                let text = item.chars().take(ECHO_MAX).collect();
                faults.items.push(BadItem { text, index, offset, length: item.chars().count(), reason });
            }
            Err(_) => faults.unlisted = faults.unlisted.saturating_add(1),
        }
    }
    faults.too_many = Some(distinct.len()).filter(|count| *count > ITEMS_MAX);
    if faults.items.is_empty() && faults.too_many.is_none() { Ok(networks) } else { Err(faults) }
}

/// How an entry is shown: one address stands without its `/32`. [`parse`] reads it back.
pub fn entry(network: &Ipv4Net) -> String {
    if network.prefix_len() == 32 { network.addr().to_string() } else { network.to_string() }
}

/// Whether a request from `address` gets in (R2.1). An empty list lets everybody in. Any other lets in who is in one
/// of its networks, also as an IPv4-mapped IPv6 address, which is how a dual-stack socket names IPv4 peers; it keeps
/// out all other IPv6, and requests whose address is not known.
pub fn permits(list: &[Ipv4Net], address: Option<IpAddr>) -> bool {
    let address = match address {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(address)) => address.to_ipv4_mapped(),
        None => None,
    };
    list.is_empty() || address.is_some_and(|address| list.iter().any(|network| network.contains(&address)))
}

/// The items with the characters before each (R2.4). Tabs and any other white space count as spaces.
fn items(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut offset = 0_usize;
    text.split(|c: char| c == ',' || c.is_whitespace())
        .map(move |piece| {
            let start = offset;
            offset = offset.saturating_add(piece.chars().count()).saturating_add(1);
            (start, piece)
        })
        .filter(|(_, piece)| !piece.is_empty())
}

/// One item (R2.5). What kind of thing it is comes first, then whether it is well written, then whether it is public:
/// host bits last, so that the network suggested is always one that can be saved.
fn read(item: &str) -> Result<Ipv4Net, BadItemReason> {
    let (address, prefix) = match item.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (item, None),
    };
    if !dotted(address) {
        return Err(reason::by_looks(item).unwrap_or(BadItemReason::NotAnAddress));
    }
    if prefix.is_some_and(|prefix| !dotted(prefix)) {
        return Err(reason::by_looks(item).unwrap_or(BadItemReason::Prefix));
    }
    let address = read_address(address)?;
    let prefix = prefix.map_or(Ok(32), read_prefix)?;
    let given = Ipv4Net::new(address, prefix).map_err(|_| BadItemReason::Prefix)?;
    let network = given.trunc();
    NonPublic::check(network)?;
    if given == network { Ok(network) } else { Err(BadItemReason::HostBits { network, address }) }
}

/// Digits and dots: what addresses and netmasks are made of.
fn dotted(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn read_address(text: &str) -> Result<Ipv4Addr, BadItemReason> {
    let octets: Vec<&str> = text.split('.').take(5).collect();
    let octets: [&str; 4] = octets.try_into().map_err(|_| BadItemReason::Octets)?;
    if octets.iter().any(|octet| octet.is_empty()) {
        return Err(BadItemReason::Octets);
    }
    if octets.iter().any(|octet| octet.len() > 1 && octet.starts_with('0')) {
        return Err(BadItemReason::LeadingZeros);
    }
    // With its shape known good, a number over 255 is all that can be wrong.
    text.parse().map_err(|_| BadItemReason::OctetOver255)
}

fn read_prefix(text: &str) -> Result<u8, BadItemReason> {
    if text.contains('.') {
        return Err(BadItemReason::Netmask);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(BadItemReason::Prefix);
    }
    text.parse().ok().filter(|prefix| *prefix <= 32).ok_or(BadItemReason::Prefix)
}

#[cfg(test)]
mod tests;
