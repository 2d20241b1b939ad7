//! Where webhooks may go: addresses that are not public are refused on the address that is connected to, so that no name
//! can lead inside, whatever it resolved to before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why a URL cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// It is none.
    #[error("is not a URL")]
    NotUrl,
    /// Not a kind that is called.
    #[error("must begin with https://")]
    Scheme,
    /// A user or password in it would be sent, and shown in logs.
    #[error("must not hold a user or a password")]
    Credentials,
    /// It names no host.
    #[error("must name a host")]
    NoHost,
    /// Its host is an address that is not called.
    #[error("names the address {0}, which is not public; the operator may allow it")]
    Private(IpAddr),
    /// Too long.
    #[error("must have at most {URL_MAX} bytes")]
    TooLong,
}

/// Longest URL.
pub(crate) const URL_MAX: usize = 2_048;

/// A name of nothing but addresses that are not called.
#[derive(Debug, thiserror::Error)]
#[error("its name leads to an address that is not public; the operator may allow it")]
struct PrivateName;

/// Which addresses may be called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(Arc<[IpNet]>);

impl Allowed {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether an address may be called.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        // However it is written, it is the same host.
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }

    /// Reads a URL that may be called. A host that is an address is checked here; a name when it is resolved.
    pub(crate) fn url(&self, text: &str, allow_http: bool) -> Result<Url, UrlError> {
        if text.len() > URL_MAX {
            return Err(UrlError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| UrlError::NotUrl)?;
        if url.scheme() != "https" && !(allow_http && url.scheme() == "http") {
            return Err(UrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(UrlError::NoHost)?;
        // The parser has written every form of an address in the usual one.
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        match plain.parse::<IpAddr>() {
            Ok(address) if !self.allows(address) => Err(UrlError::Private(address)),
            Ok(_) | Err(_) => Ok(url),
        }
    }
}

/// Resolves names, and leaves out what may not be called.
impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.clone();
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let refused = found.iter().find(|found| !allowed.allows(found.ip())).map(SocketAddr::ip);
            let public: Vec<SocketAddr> =
                found.into_iter().filter(|found| allowed.allows(found.ip())).collect();
            match refused {
                Some(address) if public.is_empty() => {
                    // Whoever adds webhooks must not learn what the network inside looks like.
                    tracing::debug!(name, %address, "a webhook's name leads to an address that is not public");
                    Err(PrivateName.into())
                }
                Some(_) | None => {
                    let found: Addrs = Box::new(public.into_iter());
                    Ok(found)
                }
            }
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// What the registry of special addresses does not have (RFC 6890 and its successors).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 168, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [..] => false,
    };
    !special
}

/// Global unicast addresses, less those of documentation and of tunnels, which lead to addresses within them.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    if [first, second] == [0x64, 0xff9b] && address.segments().get(2..6) == Some(&[0; 4]) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let global = first & 0xe000 == 0x2000;
    let protocols = first == 0x2001 && second < 0x0200;
    let documentation = (first == 0x2001 && second == 0x0db8) || (first == 0x3fff && second < 0x1000);
    let tunnel = first == 0x2002;
    global && !protocols && !documentation && !tunnel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r7_3_addresses_that_are_not_public_are_refused() {
        let allowed = Allowed::default();
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!allowed.allows(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.254",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(allowed.allows(text.parse().unwrap()), "{text}");
        }
        let office = Allowed::new(&["10.0.0.0/8".parse().unwrap()]);
        assert!(office.allows("10.1.2.3".parse().unwrap()));
        assert!(office.allows("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!office.allows("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn r7_3_urls_are_https_and_name_nobody_inside() {
        let read = |text: &str| Allowed::default().url(text, false).map(|url| url.to_string());
        assert_eq!(read("https://hooks.example.com/x?y=1").unwrap(), "https://hooks.example.com/x?y=1");
        assert_eq!(read("http://hooks.example.com"), Err(UrlError::Scheme));
        assert_eq!(read("ftp://hooks.example.com"), Err(UrlError::Scheme));
        assert_eq!(read("hooks.example.com"), Err(UrlError::NotUrl));
        assert_eq!(read("https://ada:secret@example.com"), Err(UrlError::Credentials));
        let long = format!("https://example.com/{}", "x".repeat(URL_MAX));
        assert_eq!(read(&long), Err(UrlError::TooLong));
        for inside in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest",
        ] {
            assert!(matches!(read(inside), Err(UrlError::Private(_))), "{inside}");
        }
        assert!(Allowed::default().url("http://example.com/", true).is_ok());
    }

    #[tokio::test]
    async fn r7_3_a_name_that_leads_inside_is_refused_when_it_is_resolved() {
        use std::str::FromStr as _;
        let name = || Name::from_str("localhost").unwrap();
        let error = Allowed::default().resolve(name()).await.err().unwrap().to_string();
        assert!(error.contains("not public"), "{error}");
        let everything = Allowed::new(&["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        assert!(everything.resolve(name()).await.unwrap().count() > 0);
    }
}
