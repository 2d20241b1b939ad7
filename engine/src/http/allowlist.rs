//! The IP allowlist of an organization (R2).

use ipnet::Ipv4Net;
use tollbook_schemas::allowlist;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::OrgId;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::{Fault, Problem};
use super::reading::{Reading, read_organization};
use super::shape::{answer, request};
use super::write::{Changed, Write};
use crate::permission::Action;

const ALLOWLIST: &str = "/v1/organizations/{org}/ip-allowlist";

pub(super) fn routes(routes: &mut Routes) {
    routes.family("IP allowlist", "The addresses from which an organization's API keys work.");
    let says = Says {
        id: "getIpAllowlist",
        summary: "See the IP allowlist",
        more: "Without entries there is no restriction. While the organization is unverified nobody sees it; once it is \
               verified its creator does, and its administrators once the enterprise verification is completed.",
    };
    routes.read(ALLOWLIST, says, show);
    let says = Says {
        id: "saveIpAllowlist",
        summary: "Replace the IP allowlist",
        more: "At most 20 public IPv4 addresses and CIDR ranges, separated by new lines, commas or spaces. An empty text \
               lifts the restriction. One bad item refuses all of it; `errors` then holds every bad item with its number \
               (`index`), the character it begins at (`offset`) and the reason, in words and as a `code`.",
    };
    routes.write(Verb::Put, ALLOWLIST, says, save);
}

request! {
    /// An IP allowlist as somebody typed it.
    pub(super) struct NewIpAllowlist {
        /// The items.
        text: String,
    }
}

answer! {
    /// An IP allowlist.
    pub(super) struct IpAllowlist {
        /// Addresses and ranges; none: no restriction.
        entries: Vec<String>,
    }
}

impl IpAllowlist {
    fn of(entries: &[Ipv4Net]) -> Self {
        Self { entries: entries.iter().map(allowlist::entry).collect() }
    }
}

async fn show(Reading { path: org, at, .. }: Reading<OrgId>) -> Result<Json<IpAllowlist>, Problem> {
    let read = at.organization(&org, Action::Allowlist, |known| IpAllowlist::of(&known.allowlist));
    Ok(Json(read.await?))
}

async fn save(
    Write { path: org, body, author }: Write<OrgId, NewIpAllowlist>,
) -> Result<Changed<IpAllowlist>, Problem> {
    let entries = allowlist::parse(&body.text).map_err(faults)?;
    let done = author.decide(&org, OrganizationCommand::SaveAllowlist(entries)).await?;
    let shown = read_organization(&author.node, &org, |known| IpAllowlist::of(&known.allowlist));
    Ok(Changed::new(done, shown.await?))
}

/// Every bad item, and that there are too many, at once (R2.6).
fn faults(found: allowlist::Faults) -> Problem {
    let detail = found.to_string();
    let most = allowlist::ITEMS_MAX;
    let too_many = |count| {
        Fault::at("text", None, format!("holds {count} different items; at most {most} may be saved"))
    };
    let bad = |item: allowlist::BadItem| Fault {
        index: Some(item.index),
        offset: Some(item.offset),
        code: Some(item.reason.code()),
        ..Fault::at("text", Some(item.text.into()), item.reason)
    };
    let faults = found.too_many.map(too_many).into_iter().chain(found.items.into_iter().map(bad));
    Problem::allowlist(detail, faults.collect())
}
