//! Who makes a request, when proxies may stand between. Pure.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, HOST},
};
use ipnet::IpNet;
use switchboard_chassis::traces;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who makes a request, as far as it can be known. Every request has one among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Of the nearest machine that is not one of our proxies.
    pub(crate) address: IpAddr,
    /// Whether it comes by TLS.
    pub(crate) is_secure: bool,
}

/// The proxies that are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    networks: Vec<IpNet>,
}

impl Proxies {
    /// Reads addresses and networks; or else says what is wrong with each.
    pub(crate) fn read(list: &[String]) -> Result<Self, Vec<String>> {
        let (mut networks, mut mistakes) = (Vec::new(), Vec::new());
        for entry in list {
            match entry.parse::<IpNet>().or_else(|error| entry.parse::<IpAddr>().map(IpNet::from).map_err(|_| error)) {
                Ok(network) if network.prefix_len() == 0 => {
                    mistakes.push(format!("{entry}: everybody cannot be a proxy"));
                }
                Ok(network) => networks.push(network),
                Err(_) => mistakes.push(format!("{entry}: a proxy is an address, or a network as 10.0.0.0/8")),
            }
        }
        if mistakes.is_empty() { Ok(Self { networks }) } else { Err(mistakes) }
    }

    /// Who makes a request that came from `peer`. Afterwards `Host` is what the client asked for, and the headers of
    /// proxies are gone, so that nobody believes them by mistake. Only of a proxy is taken of which trace a request is:
    /// else anybody could have everything traced.
    pub(crate) fn client(&self, peer: IpAddr, is_tls: bool, headers: &mut HeaderMap) -> Client {
        let peer = peer.to_canonical();
        let mut client = Client { address: peer, is_secure: is_tls };
        if self.trust(peer) {
            let told = self.told(peer, headers);
            let (scheme, host) = (last(headers, &X_FORWARDED_PROTO), last(headers, &X_FORWARDED_HOST));
            client.address = told.address;
            if let Some(scheme) = scheme.or(told.scheme) {
                client.is_secure = ["https", "wss"].iter().any(|secure| scheme.eq_ignore_ascii_case(secure));
            }
            if let Some(Ok(host)) = host.or(told.host).map(|host| HeaderValue::from_str(&host)) {
                headers.insert(HOST, host);
            }
        } else {
            traces::forget(headers);
        }
        for header in [&FORWARDED, &X_FORWARDED_FOR, &X_FORWARDED_PROTO, &X_FORWARDED_HOST] {
            headers.remove(header);
        }
        client
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// What the headers tell of the client.
    fn told(&self, peer: IpAddr, headers: &HeaderMap) -> Told {
        let old = values(headers, &X_FORWARDED_FOR).flat_map(|value| value.split(','));
        let old = self.nearest_stranger(peer, old.map(|hop| Hop { address: address(hop), ..Hop::default() }).collect());
        let new = values(headers, &FORWARDED).flat_map(|value| split(value, ','));
        let new = self.nearest_stranger(peer, new.map(Hop::read).collect());
        match (old, new) {
            (None, None) => Told { address: peer, scheme: None, host: None },
            (Some(told), None) | (None, Some(told)) => told,
            (Some(old), Some(new)) if old.address == new.address => new,
            // One of them is the proxy's and one the client's invention, and there is no telling which.
            (Some(_), Some(_)) => Told { address: peer, scheme: None, host: None },
        }
    }

    /// From the nearest hop to the farthest: each proxy is believed whom it heard the request from, and who is no proxy
    /// is the client. What stands before it may be anybody's invention.
    fn nearest_stranger(&self, peer: IpAddr, hops: Vec<Hop>) -> Option<Told> {
        if hops.is_empty() {
            return None;
        }
        let mut told = Told { address: peer, scheme: None, host: None };
        for hop in hops.into_iter().rev() {
            let Some(address) = hop.address.filter(|_| self.trust(told.address)) else { break };
            told = Told { address, scheme: hop.scheme, host: hop.host };
        }
        Some(told)
    }
}

/// What proxies tell of a client.
struct Told {
    address: IpAddr,
    scheme: Option<String>,
    host: Option<String>,
}

/// What one proxy tells of whom it heard a request from.
#[derive(Default)]
struct Hop {
    /// `None` when it is hidden or unreadable.
    address: Option<IpAddr>,
    scheme: Option<String>,
    host: Option<String>,
}

impl Hop {
    /// Reads an element of `Forwarded` (RFC 7239).
    fn read(element: &str) -> Self {
        let mut hop = Self::default();
        for (name, value) in split(element, ';').filter_map(|pair| pair.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.address = address(value),
                "proto" => hop.scheme = Some(value.to_owned()),
                "host" => hop.host = Some(value.to_owned()),
                _ => {}
            }
        }
        hop
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))?;
    Some(address.to_canonical())
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    // What cannot be read is a hop of which nothing is known.
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("unknown"))
}

/// Of several values the last, which is the nearest proxy's.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    values(headers, name).last()?.rsplit(',').next().map(|value| value.trim().to_owned())
}

/// The parts between separators that are not quoted.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURE: &str = "secure";

    fn proxies() -> Proxies {
        let list = ["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"].map(str::to_owned);
        Proxies::read(&list).expect("right")
    }

    #[test]
    fn what_a_proxy_is() {
        let proxies = proxies();
        for (address, expected) in [
            ("10.0.0.1", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:1:ffff::1", true),
            ("2001:db8:2::1", false),
        ] {
            assert_eq!(proxies.trust(address.parse().expect("an address")), expected, "{address}");
        }
        let wrong = ["10.0.0.0/33", "proxy.internal", "0.0.0.0/0", "::/0", ""].map(str::to_owned);
        assert_eq!(Proxies::read(&wrong).expect_err("wrong").len(), 5);
        assert!(!Proxies::default().trust("127.0.0.1".parse().expect("an address")));
    }

    /// A connection from, headers, and the client: its address, and whether it comes by TLS.
    #[test]
    fn whose_word_is_taken() {
        let old = "x-forwarded-for";
        let new = "forwarded";
        for (peer, headers, expected) in [
            // Nobody in between, whatever is claimed.
            ("203.0.113.9", vec![], "203.0.113.9"),
            ("203.0.113.9", vec![(old, "198.51.100.7")], "203.0.113.9"),
            (
                "203.0.113.9",
                vec![(old, "10.0.0.1"), (new, "for=10.0.0.2"), ("x-forwarded-proto", "https")],
                "203.0.113.9",
            ),
            // One proxy, two proxies.
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec![(old, "198.51.100.7")], "198.51.100.7"),
            ("::ffff:10.0.0.1", vec![(old, "::ffff:198.51.100.7")], "198.51.100.7"),
            ("192.0.2.1", vec![(old, "198.51.100.7, 10.0.0.3")], "198.51.100.7"),
            ("10.0.0.1", vec![(old, "198.51.100.7"), (old, "10.0.0.3")], "198.51.100.7"),
            // What stands before the nearest stranger is the stranger's invention.
            ("10.0.0.1", vec![(old, "127.0.0.1, 198.51.100.7")], "198.51.100.7"),
            ("10.0.0.1", vec![(old, "10.9.9.9, 198.51.100.7, 10.0.0.3")], "198.51.100.7"),
            // All are ours.
            ("10.0.0.1", vec![(old, "10.0.0.4, 10.0.0.3")], "10.0.0.4"),
            // Hidden, unreadable: no more is known than the last that was told.
            ("10.0.0.1", vec![(old, "unknown")], "10.0.0.1"),
            ("10.0.0.1", vec![(old, "198.51.100.7, garbage, 10.0.0.3")], "10.0.0.3"),
            ("10.0.0.1", vec![(old, "")], "10.0.0.1"),
            // With ports, as some write them; IPv6.
            ("10.0.0.1", vec![(old, "198.51.100.7:4711")], "198.51.100.7"),
            ("2001:db8:1::1", vec![(old, "2001:db8:2::1")], "2001:db8:2::1"),
            ("2001:db8:1::1", vec![(old, "[2001:db8:2::1]:99")], "2001:db8:2::1"),
            // The standard.
            ("10.0.0.1", vec![(new, "for=198.51.100.7;proto=https;by=10.0.0.1")], "198.51.100.7 secure"),
            ("10.0.0.1", vec![(new, "For=\"[2001:db8:2::1]:99\"; Proto=http")], "2001:db8:2::1"),
            ("10.0.0.1", vec![(new, "for=127.0.0.1;proto=https, for=198.51.100.7;proto=http")], "198.51.100.7"),
            ("10.0.0.1", vec![(new, "for=198.51.100.7;host=\"a,b;for=127.0.0.1\", for=10.0.0.3")], "198.51.100.7"),
            ("10.0.0.1", vec![(new, "for=_hidden")], "10.0.0.1"),
            // Both agree; they differ, so one is invented.
            ("10.0.0.1", vec![(old, "198.51.100.7"), (new, "for=198.51.100.7;proto=https")], "198.51.100.7 secure"),
            ("10.0.0.1", vec![(old, "198.51.100.7"), (new, "for=127.0.0.1")], "10.0.0.1"),
            // The scheme: the nearest proxy's word.
            ("10.0.0.1", vec![(old, "198.51.100.7"), ("x-forwarded-proto", "https")], "198.51.100.7 secure"),
            ("10.0.0.1", vec![(old, "198.51.100.7"), ("x-forwarded-proto", "https, http")], "198.51.100.7"),
            ("10.0.0.1", vec![(old, "198.51.100.7"), ("x-forwarded-proto", "WSS")], "198.51.100.7 secure"),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let client = proxies().client(peer.parse().expect("an address"), false, &mut map);
            let (address, secure) = expected.split_once(' ').unwrap_or((expected, ""));
            assert_eq!(client.address.to_string(), address, "{peer} {headers:?}");
            assert_eq!(client.is_secure, secure == SECURE, "{peer} {headers:?}");
            map.remove(HOST);
            assert!(map.is_empty(), "{map:?}");
        }
    }

    #[test]
    fn a_trace_is_a_proxy_s_to_name() {
        for (peer, is_believed) in [("203.0.113.9", false), ("10.0.0.1", true)] {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_static("00-1-1-01"));
            headers.insert("tracestate", HeaderValue::from_static("a=b"));
            proxies().client(peer.parse().expect("an address"), false, &mut headers);
            assert_eq!(headers.len(), if is_believed { 2 } else { 0 }, "{peer}");
        }
    }

    #[test]
    fn the_host_that_was_asked_for() {
        for (peer, header, value, expected) in [
            ("203.0.113.9", "x-forwarded-host", "evil.example", "edge.internal"),
            ("10.0.0.1", "x-forwarded-host", "chat.example.com", "chat.example.com"),
            ("10.0.0.1", "x-forwarded-host", "evil.example, chat.example.com", "chat.example.com"),
            ("10.0.0.1", "forwarded", "for=198.51.100.7;host=chat.example.com", "chat.example.com"),
            ("10.0.0.1", "forwarded", "for=_hidden;host=evil.example", "edge.internal"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("edge.internal"));
            headers.insert(header, HeaderValue::from_static(value));
            let client = proxies().client(peer.parse().expect("an address"), true, &mut headers);
            assert_eq!(headers.get(HOST).and_then(|host| host.to_str().ok()), Some(expected), "{peer} {value}");
            assert!(client.is_secure);
        }
    }
}
