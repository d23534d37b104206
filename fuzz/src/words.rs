//! Which words may be in what is sent to nft, and where. Written from the grammar of nft and the
//! skeleton, not from what encodes rulesets: a word of a caller's that gets into a transaction in
//! any other shape than these is a finding.

use std::net::Ipv6Addr;

/// A name of ours: of a set or a chain.
pub fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// An interface's name, in its quotes.
pub fn is_interface(word: &str) -> bool {
    let inside = word.strip_prefix('"').and_then(|w| w.strip_suffix('"'));
    inside.is_some_and(|name| {
        (1..=15).contains(&name.len())
            && name
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"._+-".contains(&c))
    })
}

pub fn is_mac(word: &str) -> bool {
    let parts: Vec<_> = word.split(':').collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && is_hex(p))
}

pub fn is_address(word: &str) -> bool {
    word.parse::<Ipv6Addr>()
        .is_ok_and(|address| address.to_string() == word)
}

/// A prefix without host bits.
pub fn is_prefix(word: &str) -> bool {
    let Some((address, length)) = word.split_once('/') else {
        return false;
    };
    let (Ok(address), Some(length)) = (address.parse::<Ipv6Addr>(), number(length, 128)) else {
        return false;
    };
    let host = u128::MAX.checked_shr(length).unwrap_or(0);
    u128::from(address) & host == 0 && is_address(&address.to_string())
}

/// A number of so many octets in hexadecimal.
pub fn is_octets(word: &str, octets: usize) -> bool {
    word.strip_prefix("0x")
        .is_some_and(|digits| digits.len() == 2 * octets && is_hex(digits))
}

/// A decimal number up to a maximum, in its one spelling.
pub fn number(word: &str, max: u32) -> Option<u32> {
    let number = word.parse().ok()?;
    (number <= max && word == format!("{number}")).then_some(number)
}

fn is_hex(digits: &str) -> bool {
    digits
        .bytes()
        .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// Ports of a rule: one, or a range that runs upwards.
fn is_ports(word: &str) -> bool {
    match word.split_once('-') {
        None => number(word, 65535).is_some(),
        Some((first, last)) => match (number(first, 65535), number(last, 65535)) {
            (Some(first), Some(last)) => first < last,
            _ => false,
        },
    }
}

/// Whether an element's key is of the type that its set was declared with.
pub fn is_key(declared: &str, key: &str) -> bool {
    let kinds: Vec<_> = declared.split(" . ").collect();
    let parts: Vec<_> = key.split(" . ").collect();
    let fits = |(kind, part): (&&str, &&str)| match *kind {
        "ifname" | "iifname" => is_interface(part),
        "ether_addr" => is_mac(part),
        "ipv6_addr" => is_address(part) || is_prefix(part),
        "mark" | "meta mark" => is_octets(part, 4),
        "@th,64,128" | "@nh,64,128" => is_octets(part, 16),
        "@th,208,48" => is_octets(part, 6),
        _ => false,
    };
    kinds.len() == parts.len() && kinds.iter().zip(&parts).all(fits)
}

/// A rule without its comment; what it refers to is told.
pub fn rule<'a>(rule: &'a str, refer: &mut impl FnMut(Referred<'a>)) -> Result<(), String> {
    let wrong = || format!("no rule of ours: {rule}");
    let (rule, comment) = match rule.split_once(" comment \"") {
        Some((rule, comment)) => (rule, Some(comment.strip_suffix('"').ok_or_else(wrong)?)),
        None => (rule, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@ ".contains(c);
    if comment.is_some_and(|text| text.len() > 128 || !text.chars().all(plain)) {
        return Err(wrong());
    }
    let words: Vec<_> = rule.split(' ').collect();
    let (verdict, matches) = match words.as_slice() {
        [matches @ .., "accept" | "return"] => (None, matches),
        [matches @ .., "goto" | "jump", chain] => (Some(*chain), matches),
        ["ct", "zone", "set", zone] if number(zone, 65535).is_some() => return Ok(()),
        _ => return Err(wrong()),
    };
    if let Some(chain) = verdict {
        refer(Referred::Chain(chain));
    }
    let rest = protocol(matches);
    let rest = match rest {
        ["ip6", "saddr" | "daddr", remote, rest @ ..] if remote.starts_with('@') => {
            refer(Referred::Set(&remote[1..]));
            rest
        }
        ["ip6", "saddr" | "daddr", remote, rest @ ..] if is_prefix(remote) => rest,
        ["ether", "daddr", mac, rest @ ..] if is_mac(mac) => rest,
        other => by_length(other, refer),
    };
    if rest.is_empty() {
        Ok(())
    } else {
        Err(wrong())
    }
}

/// What a rule refers to.
pub enum Referred<'a> {
    Chain(&'a str),
    Set(&'a str),
}

fn protocol<'a, 'b>(words: &'b [&'a str]) -> &'b [&'a str] {
    match words {
        ["icmpv6", "type", kind, "icmpv6", "code", code, rest @ ..]
            if number(kind, 255).is_some() && number(code, 255).is_some() =>
        {
            rest
        }
        ["icmpv6", "type", kind, rest @ ..]
            if *kind == "echo-request" || number(kind, 255).is_some() =>
        {
            rest
        }
        ["meta", "l4proto", name, rest @ ..]
            if ["tcp", "udp", "sctp", "ipv6-icmp"].contains(name)
                || number(name, 255).is_some() =>
        {
            rest
        }
        ["tcp" | "udp" | "sctp", "dport", ports, rest @ ..] if is_ports(ports) => rest,
        other => other,
    }
}

/// The rules of the prefix lengths in use.
fn by_length<'a, 'b>(words: &'b [&'a str], refer: &mut impl FnMut(Referred<'a>)) -> &'b [&'a str] {
    let mask = |word: &str| word.strip_suffix(')').is_some_and(is_address);
    match words {
        [
            "meta",
            "mark",
            "set",
            "iifname" | "oifname",
            ".",
            "ether",
            "saddr" | "daddr",
            ".",
            "(ip6",
            "saddr" | "daddr",
            "&",
            bits,
            "map",
            map,
            rest @ ..,
        ] if mask(bits) && map.starts_with('@') => {
            refer(Referred::Set(&map[1..]));
            rest
        }
        ["iifname", ".", "(@th,64,128", "&", bits, set, rest @ ..]
            if bits
                .strip_suffix(')')
                .is_some_and(|bits| is_octets(bits, 16))
                && set.starts_with('@') =>
        {
            refer(Referred::Set(&set[1..]));
            rest
        }
        other => other,
    }
}
