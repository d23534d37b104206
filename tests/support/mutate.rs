//! Takes one rule out of the kernel, to see which test notices.
//!
//! `SGAGENT_TEST_MUTATE="bridge sgagent guest_ra 2"` deletes the third rule of that chain in
//! every fixture, after its first apply. A suite that stays green has a hole.

use super::namespace::Namespace;

const VARIABLE: &str = "SGAGENT_TEST_MUTATE";

pub(crate) fn mutate(namespace: &Namespace) {
    let Ok(spec) = std::env::var(VARIABLE) else {
        return;
    };
    let words: Vec<&str> = spec.split_whitespace().collect();
    let [family, table, chain, index] = words[..] else {
        panic!("{VARIABLE} is FAMILY TABLE CHAIN INDEX, not {spec:?}");
    };
    let index: usize = index.parse().expect("the index is a number");
    let listing = namespace.command(&format!("nft -a list chain {family} {table} {chain}"));
    let handle = handles(&listing).nth(index);
    let handle = handle.unwrap_or_else(|| panic!("no rule {index} in {chain}:\n{listing}"));
    namespace.command(&format!(
        "nft delete rule {family} {table} {chain} handle {handle}"
    ));
}

/// The handles of a chain's rules, in order: the rules are the lines with a handle that are
/// neither the table nor the chain.
fn handles(listing: &str) -> impl Iterator<Item = &str> {
    listing
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("table ") && !line.starts_with("chain "))
        .filter_map(|line| line.rsplit_once("# handle ").map(|(_, handle)| handle))
}
