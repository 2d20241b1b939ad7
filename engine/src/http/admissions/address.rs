//! Where a request comes from that proxies have passed on: the last hop that is not one of ours.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Every proxy writes where a request came to it from behind what others have written there before.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The rightmost hop that is not trusted, the peer itself being the last; where all are trusted, the first. `None`:
/// what a trusted proxy has written there is no address.
pub(super) fn client(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut client = peer?.to_canonical();
    let values = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    while trusted.iter().any(|network| network.contains(&client)) {
        match hops.next().map(<[u8]>::trim_ascii) {
            None => break,
            // An empty item of a list says nothing (RFC 9110).
            Some(b"") => {}
            Some(hop) => client = address(hop)?,
        }
    }
    Some(client)
}

/// An address, as proxies write it: with a port, and in brackets, too.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(peer: &str, forwarded: &[&str], trusted: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client(&headers, Some(peer.parse().unwrap()), &trusted).map(|ip| ip.to_string())
    }

    #[test]
    fn r2_1_a_request_comes_from_the_last_hop_that_is_not_ours() {
        let ours = ["10.0.0.0/8", "::1/128"];
        for (peer, forwarded, expected) in [
            // What somebody says of themselves is not believed.
            ("198.51.100.1", &["203.0.113.7"][..], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.2.3.4, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.2.3.4,203.0.113.7, 10.9.9.9"], "203.0.113.7"),
            // Several lines are one list.
            ("10.0.0.1", &["1.2.3.4", "203.0.113.7", "10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7, ,", ""], "203.0.113.7"),
            // All of them are ours.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // However it is written.
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7"),
            ("::1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::1", &["[2001:db8::1]"], "2001:db8::1"),
        ] {
            assert_eq!(found(peer, forwarded, &ours).as_deref(), Some(expected), "{peer} {forwarded:?}");
        }
        assert_eq!(found("10.0.0.1", &["203.0.113.7, unknown"], &ours), None);
        assert_eq!(found("10.0.0.1", &["203.0.113.7"], &[]).as_deref(), Some("10.0.0.1"));
    }
}
