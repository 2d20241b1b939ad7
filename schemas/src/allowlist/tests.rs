//! The rules of the allowlist, against definitions written here once more.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn entries(text: &str) -> Vec<String> {
    parse(text).unwrap().iter().map(entry).collect()
}

fn faults(text: &str) -> Faults {
    parse(text).unwrap_err()
}

/// Each row: an item, the code of its fault, and part of what is said of it.
#[track_caller]
fn refused(rows: &[(&str, &str, &str)]) {
    for (text, code, words) in rows {
        let found = faults(text);
        assert_eq!(found.items.len(), 1, "{text}: {found}");
        assert_eq!(found.items[0].reason.code(), *code, "{text}: {found}");
        assert!(found.to_string().contains(words), "{text}: {found}");
    }
}

const VALID: [&str; 4] = ["203.0.113.4", "198.51.100.0/24", "52.94.76.0/22", "13.107.42.0/24"];

#[test]
fn r2_4_the_documents_list_in_both_forms() {
    assert_eq!(entries("203.0.113.4\n198.51.100.0/24\n52.94.76.0/22\n13.107.42.0/24"), VALID);
    assert_eq!(entries("203.0.113.4, 198.51.100.0/24 52.94.76.0/22 13.107.42.0/24"), VALID);
}

#[test]
fn r2_4_separators_mix_and_run() {
    for text in [
        "\r\n203.0.113.4\r\n198.51.100.0/24\r\n\r\n52.94.76.0/22\r\n13.107.42.0/24\r\n",
        ",,203.0.113.4,,198.51.100.0/24 ,\t 52.94.76.0/22\n,13.107.42.0/24, ",
        "203.0.113.4\u{3000}198.51.100.0/24\u{a0}52.94.76.0/22\u{2028}13.107.42.0/24",
    ] {
        assert_eq!(entries(text), VALID, "{text:?}");
    }
    refused(&[
        ("8.8.8.8，8.8.4.4", "separator", "holds `，`; separate items with new lines, commas or spaces"),
        ("8.8.8.8、8.8.4.4", "separator", "holds `、`"),
        ("8.8.8.8;8.8.4.4", "separator", "holds `;`"),
        ("8.8.8.0/24；8.8.4.4", "separator", "holds `；`"),
        ("\u{feff}8.8.8.8", "invisible_character", "U+FEFF; delete the item and type it again"),
        ("8.8.8.0/24\u{200b}", "invisible_character", "U+200B"),
        ("8.8.8.8\0", "invisible_character", "U+0000"),
    ]);
}

#[test]
fn r2_4_a_blank_text_is_an_empty_list() {
    for text in ["", " ", "\n", " ,\r\n,\t"] {
        assert_eq!(parse(text), Ok(Vec::new()), "{text:?}");
    }
}

#[test]
fn r2_4_duplicates_collapse_before_counting() {
    assert_eq!(
        entries("8.8.8.8 8.8.4.4 8.8.8.8 8.8.8.8/32 8.8.4.0/24"),
        ["8.8.8.8", "8.8.4.4", "8.8.4.0/24"]
    );
    assert_eq!(parse(&"8.8.8.8 ".repeat(10_000)).unwrap().len(), 1);
}

#[test]
fn r2_4_at_most_twenty_items() {
    let list = |count: u8| (0..count).map(|last| format!("8.8.8.{last}\n")).collect::<String>();
    assert_eq!(parse(&list(20)).unwrap().len(), 20);
    assert_eq!(parse(&(list(20) + "8.8.8.3")).unwrap().len(), 20);
    let found = faults(&list(21));
    assert_eq!(found, Faults { too_many: Some(21), ..Faults::default() });
    assert_eq!(found.to_string(), "must have at most 20 items, not 21");

    // One more fault beside the bad items, which count as well, once for each text.
    let found = faults(&(list(19) + "10.0.0.1 10.0.0.1 ::1"));
    assert_eq!((found.items.len(), found.too_many), (3, Some(21)));
    assert_eq!(
        found.to_string(),
        "must have at most 20 items, not 21; item 20 `10.0.0.1` is private (10.0.0.0/8), not public; enter the \
         public address that your requests come from, and 2 more"
    );
}

#[test]
fn r2_5_each_invalid_example_of_the_documents() {
    refused(&[
        ("192.168.1.1", "private", "is private (192.168.0.0/16), not public"),
        ("10.0.0.1", "private", "is private (10.0.0.0/8), not public"),
        ("172.16.0.0/12", "private", "is private (172.16.0.0/12), not public"),
        ("100.64.0.0/10", "carrier_grade_nat", "is carrier-grade NAT (100.64.0.0/10)"),
        ("127.0.0.0/8", "loopback", "is loopback (127.0.0.0/8)"),
        ("169.254.0.0/16", "link_local", "is link-local (169.254.0.0/16)"),
        ("224.0.0.0/4", "multicast", "is multicast (224.0.0.0/4)"),
        ("240.0.0.0/4", "reserved", "is reserved (240.0.0.0/4)"),
    ]);
}

#[test]
fn r2_5_other_addresses_that_are_not_public() {
    refused(&[
        ("0.0.0.0", "this_network", "is \"this network\" (0.0.0.0/8)"),
        ("192.0.0.9", "protocol_assignments", "is for protocol assignments (192.0.0.0/24)"),
        ("192.0.2.1", "documentation", "is for documentation (192.0.2.0/24)"),
        ("198.19.255.255", "benchmarking", "is for benchmarking (198.18.0.0/15)"),
        ("255.255.255.255", "reserved", "is reserved"),
        // A suggestion of what cannot be saved either would not help.
        ("10.0.0.5/8", "private", "is private"),
    ]);
    assert_eq!(entries("100.128.0.1 172.32.0.1 192.0.1.1 223.255.255.255").len(), 4);
}

#[test]
fn r2_5_a_range_that_overlaps_what_is_not_public() {
    refused(&[
        ("0.0.0.0/0", "overlap", "overlaps 0.0.0.0/8, which is \"this network\""),
        ("8.0.0.0/5", "overlap", "overlaps 10.0.0.0/8, which is private, not public; enter a smaller range"),
        ("100.0.0.0/8", "overlap", "overlaps 100.64.0.0/10"),
        ("8.8.8.8/0", "overlap", "overlaps 0.0.0.0/8"),
        ("192.0.0.0/16", "overlap", "overlaps 192.0.0.0/24"),
    ]);
    // Nothing but the two documentation ranges that the documents use lies in these.
    assert_eq!(entries("203.0.0.0/8 198.32.0.0/11"), ["203.0.0.0/8", "198.32.0.0/11"]);
}

#[test]
fn r2_5_ipv6_in_every_form() {
    for text in [
        "::1",
        "::",
        "2001:db8::/32",
        "[2001:db8::1]",
        "[2001:db8::1]:443",
        "[2001:db8::]/32",
        "fe80::1%eth0",
        "::ffff:8.8.8.8",
        "::FFFF:8.8.8.8/128",
        "2001:db8:::1",
    ] {
        refused(&[(text, "ipv6", "is IPv6, which is not supported; enter a public IPv4 address")]);
    }
}

#[test]
fn r2_5_invalid_ranges() {
    refused(&[
        ("52.94.76.5/22", "host_bits", "enter 52.94.76.0/22 for the range or 52.94.76.5 for the one address"),
        ("8.8.8.0/33", "prefix", "must have a whole number from 0 to 32 after the slash"),
        ("8.8.8.0/", "prefix", ""),
        ("8.8.8.0/-1", "prefix", ""),
        ("8.8.8.0/+24", "prefix", ""),
        ("8.8.8.0/024", "prefix", "without leading zeros"),
        ("8.8.8.0/24/24", "prefix", ""),
        ("8.8.8.0/99999999999999999999", "prefix", ""),
        ("8.8.8.0/255.255.255.0", "netmask", "has a netmask; enter the range with a prefix"),
        ("8.8.8.1-8.8.8.9", "range_notation", "must be written as a CIDR range, such as 198.51.100.0/24"),
        ("8.8.8.0/24-8.8.9.0/24", "range_notation", ""),
        ("8.8.8.*", "range_notation", ""),
    ]);
}

#[test]
fn r2_5_what_is_no_address() {
    refused(&[
        ("8.8.8", "octets", "must be four numbers with dots between them"),
        ("8.8.8.8.8", "octets", ""),
        ("8..8.8", "octets", ""),
        ("8.8.8/24", "octets", ""),
        ("134744072", "octets", ""),
        (".", "octets", ""),
        ("8.8.8.256", "octet_over_255", "has a number over 255"),
        ("8.8.8.99999999999999999999/8", "octet_over_255", ""),
        ("8.8.8.010", "leading_zeros", "has leading zeros, which some programs read as octal"),
        ("8.8.8.8:443", "port", "has a port; enter the address alone"),
        ("api.example.com", "not_an_address", "is not an IPv4 address; enter one such as 203.0.113.4"),
        ("https://8.8.8.8/", "not_an_address", ""),
        ("/24", "not_an_address", ""),
        ("８.8.8.8", "not_an_address", ""),
        ("-", "not_an_address", ""),
        ("*", "not_an_address", ""),
    ]);
}

#[test]
fn r2_6_every_bad_item_with_its_text_position_and_reason() {
    let found = faults("8.8.8.8, 10.0.0.1\r\n８８ 8.8.8.8\t52.94.76.5/22 10.0.0.1");
    let rows: Vec<_> =
        found.items.iter().map(|bad| (bad.index, bad.offset, &*bad.text, bad.reason.code())).collect();
    assert_eq!(
        rows,
        [
            (1, 9, "10.0.0.1", "private"),
            (2, 19, "８８", "not_an_address"),
            (4, 30, "52.94.76.5/22", "host_bits"),
            (5, 44, "10.0.0.1", "private"),
        ]
    );
    assert_eq!((found.unlisted, found.too_many), (0, None));
}

#[test]
fn r2_6_what_is_repeated_of_garbage_is_bounded() {
    let found = faults(&"é".repeat(500_000));
    assert_eq!((found.items[0].text.chars().count(), found.items[0].length), (ECHO_MAX, 500_000));
    assert!(found.to_string().contains("é…` is not"), "{found}");

    let found = faults(&"x ".repeat(500_000));
    assert_eq!((found.items.len(), found.unlisted, found.too_many), (LISTED_MAX, 499_900, None));
    assert!(found.to_string().ends_with(", and 499999 more"), "{found}");

    let found = faults(&(0..100_000).map(|n| format!("{n} ")).collect::<String>());
    assert_eq!((found.items.len(), found.too_many), (LISTED_MAX, Some(COUNTED_MAX)));
    assert!(found.to_string().starts_with("must have at most 20 items, not 1000 or more; item 1 `0` "));
}

#[test]
fn r2_1_only_listed_addresses_get_in() {
    let list = parse("203.0.113.4 198.51.100.0/24").unwrap();
    for (address, in_list) in [
        (Some("203.0.113.4"), true),
        (Some("203.0.113.5"), false),
        (Some("198.51.100.255"), true),
        (Some("198.51.101.0"), false),
        (Some("::ffff:198.51.100.7"), true),
        (Some("::198.51.100.7"), false),
        (Some("2001:db8::1"), false),
        (None, false),
    ] {
        let address = address.map(|text| text.parse().unwrap());
        assert_eq!(permits(&list, address), in_list, "{address:?}");
        assert!(permits(&[], address), "{address:?}");
    }
}

/// First and last address of all that is refused, as numbers: written from RULES, not from the table.
const REFUSED: [(u32, u32); 12] = [
    (0x0000_0000, 0x00ff_ffff),
    (0x0a00_0000, 0x0aff_ffff),
    (0x6440_0000, 0x647f_ffff),
    (0x7f00_0000, 0x7fff_ffff),
    (0xa9fe_0000, 0xa9fe_ffff),
    (0xac10_0000, 0xac1f_ffff),
    (0xc000_0000, 0xc000_00ff),
    (0xc000_0200, 0xc000_02ff),
    (0xc0a8_0000, 0xc0a8_ffff),
    (0xc612_0000, 0xc613_ffff),
    (0xe000_0000, 0xefff_ffff),
    (0xf000_0000, 0xffff_ffff),
];

fn bounds(network: &Ipv4Net) -> (u32, u32) {
    (network.network().into(), network.broadcast().into())
}

/// What std knows to be something else than public.
fn std_refuses(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || (address.is_documentation() && a == 192)
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a == 198 && b & 0xfe == 18)
        || (a == 192 && b == 0 && c == 0)
}

/// Any address, more often one near a bound of what is refused.
fn address() -> impl Strategy<Value = u32> {
    let near = (0..REFUSED.len(), any::<bool>(), -300_i64..300).prop_map(|(row, first, by)| {
        let (from, to) = REFUSED[row];
        u32::try_from((i64::from(if first { from } else { to }) + by).clamp(0, u32::MAX.into())).unwrap()
    });
    prop_oneof![any::<u32>(), near]
}

/// Texts that come close to being lists.
fn item() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (address(), 0_u8..=32).prop_map(|(bits, prefix)| {
            Ipv4Net::new(Ipv4Addr::from_bits(bits), prefix).unwrap().trunc().to_string()
        }),
        2 => (address(), 0_u8..=40).prop_map(|(bits, prefix)| {
            format!("{}/{prefix}", Ipv4Addr::from_bits(bits))
        }),
        4 => address().prop_map(|bits| Ipv4Addr::from_bits(bits).to_string()),
        1 => "[0-9./:%*\\[\\]a-f，\u{200b}-]{1,40}",
        1 => "\\PC{0,100}",
    ]
}

fn list() -> impl Strategy<Value = String> {
    let separator = prop_oneof![Just(","), Just(" "), Just("\n"), Just("\r\n"), Just(", "), Just("\t")];
    // Short ones are accepted now and then.
    let length = prop_oneof![0_usize..4, 0_usize..30];
    length
        .prop_flat_map(move |length| proptest::collection::vec((item(), separator.clone()), length))
        .prop_map(|items| items.into_iter().map(|(item, separator)| item + separator).collect())
}

fn check_answer(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(list) => {
            prop_assert!(list.len() <= ITEMS_MAX);
            prop_assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len());
            for network in &list {
                let (first, last) = bounds(network);
                prop_assert!(REFUSED.iter().all(|(from, to)| last < *from || *to < first), "{}", network);
            }
            let shown: Vec<String> = list.iter().map(entry).collect();
            prop_assert_eq!(parse(&shown.join("\n")), Ok(list));
        }
        Err(faults) => {
            prop_assert!(!faults.items.is_empty() || faults.too_many.is_some());
            prop_assert!(!faults.to_string().is_empty());
            prop_assert!(faults.items.is_sorted_by_key(|bad| bad.offset));
            for bad in &faults.items {
                let rest: String = text.chars().skip(bad.offset).take(bad.length).collect();
                prop_assert!(!rest.is_empty() && rest.starts_with(&bad.text), "{:?}", bad);
                // Alone it is refused for the same reason.
                let alone = parse(&rest).unwrap_err();
                prop_assert_eq!(&alone.items[0].reason, &bad.reason);
                if let BadItemReason::HostBits { network, address } = bad.reason {
                    let both = format!("{network} {address}");
                    prop_assert!(parse(&both).is_ok());
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn r2_5_an_accepted_address_is_public(bits in address()) {
        let address = Ipv4Addr::from_bits(bits);
        let table = REFUSED.iter().any(|(from, to)| (*from..=*to).contains(&bits));
        prop_assert_eq!(table, std_refuses(address));
        prop_assert_eq!(parse(&address.to_string()).is_err(), table);
    }

    #[test]
    fn r2_5_a_range_is_accepted_exactly_when_all_of_it_is_public(bits in address(), prefix in 0_u8..=32) {
        let network = Ipv4Net::new(Ipv4Addr::from_bits(bits), prefix).unwrap().trunc();
        let (first, last) = bounds(&network);
        let public = REFUSED.iter().all(|(from, to)| last < *from || *to < first);
        prop_assert_eq!(parse(&network.to_string()).is_ok(), public);
    }

    #[test]
    fn r2_6_lists_are_accepted_or_explained(text in list()) {
        check_answer(&text)?;
    }

    #[test]
    fn r2_6_any_text_is_accepted_or_explained(text in any::<String>()) {
        check_answer(&text)?;
    }

    #[test]
    fn r2_1_a_list_permits_what_is_in_it(text in list(), bits in address()) {
        if let Ok(list) = parse(&text) {
            let address = Ipv4Addr::from_bits(bits);
            let inside = list.iter().map(bounds).any(|(first, last)| (first..=last).contains(&bits));
            prop_assert_eq!(permits(&list, Some(address.into())), inside || list.is_empty());
            prop_assert_eq!(permits(&list, Some(address.to_ipv6_mapped().into())), inside || list.is_empty());
        }
    }
}
