//! By which ways an alert is told: decided once, when it is taken over from the feed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollbook_schemas::id::{OrgId, WebhookId};
use tollbook_schemas::time::Timestamp;

use super::attempt::patiently;
use super::{Tools, is_mailed};
use crate::alerts::feed::Raised;
use crate::delivery::record::{Channel, Delivery, Record};
use crate::delivery::store::StoreError;
use crate::delivery::told::Told;
use crate::owner::CommandError;

/// The records of a piece of the feed, as far as it is the partition's own and there is somebody to tell.
pub(super) async fn records(tools: &Tools, raised: Vec<Raised>) -> Result<Vec<Record>, super::WorkError> {
    let partition = tools.owner.partition();
    let ours: Vec<Raised> =
        raised.into_iter().filter(|raised| raised.position.partition == partition).collect();
    let organizations: BTreeSet<OrgId> =
        ours.iter().filter_map(|raised| raised.organization.clone()).collect();
    let webhooks = webhooks(tools, organizations).await?;
    let now = tools.clock.now();
    let mut records = Vec::new();
    for raised in &ours {
        let told = read(raised)?;
        let mut deliveries = BTreeMap::new();
        if is_mailed(tools, told.kind, told.organization.is_none()) {
            let able = tools.mailer.is_some();
            let delivery = if able { Delivery::new(now) } else { Delivery::not_configured() };
            deliveries.insert(Channel::Email, delivery);
        }
        let known = told.organization.as_ref().and_then(|organization| webhooks.get(organization));
        for (webhook, created_at) in known.into_iter().flatten() {
            // One that was added later is not told of what was before.
            if *created_at <= told.raised_at {
                deliveries.insert(Channel::Webhook(webhook.clone()), Delivery::new(now));
            }
        }
        if !deliveries.is_empty() {
            records.push(Record { told, deliveries });
        }
    }
    Ok(records)
}

/// An alert of the feed.
fn read(raised: &Raised) -> Result<Told, StoreError> {
    let event: serde_json::Value =
        serde_json::from_slice(&raised.event).map_err(|error| StoreError(error.to_string()))?;
    Ok(Told {
        id: raised.id.clone(),
        organization: raised.organization.clone(),
        kind: raised.kind,
        position: raised.position,
        number: raised.number,
        raised_at: raised.raised_at,
        data: event.get("data").cloned().unwrap_or_default(),
    })
}

type Webhooks = BTreeMap<OrgId, Vec<(WebhookId, Timestamp)>>;

/// The webhooks that are on, and since when they are there.
async fn webhooks(tools: &Tools, organizations: BTreeSet<OrgId>) -> Result<Webhooks, CommandError> {
    let organizations = Arc::new(organizations);
    let read = patiently(|| {
        let organizations = organizations.clone();
        tools.owner.read(move |state| {
            let of = |id: &OrgId| {
                let known = state.organization(id)?;
                let on = known.webhooks.iter().filter(|(_, webhook)| webhook.disabled.is_none());
                let on = on.map(|(webhook, known)| (webhook.clone(), known.created_at)).collect();
                Some((id.clone(), on))
            };
            organizations.iter().filter_map(of).collect()
        })
    });
    read.await
}
