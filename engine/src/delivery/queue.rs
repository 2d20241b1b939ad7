//! What is due when: one lane per endpoint, so that one that hangs keeps nobody else waiting. No organization's endpoints
//! take all the room for calls, and calls take none of the room for e-mail.

use std::collections::{BTreeMap, BTreeSet};

use tollbook_schemas::id::{AlertId, OrgId};
use tollbook_schemas::time::Timestamp;

use super::record::Channel;

/// E-mails under way at the same time; of a webhook, one.
const MAILS: usize = 8;
/// Calls to webhooks under way at the same time.
const CALLS: usize = 64;
/// Of these, to webhooks of one organization.
const CALLS_OF_ORGANIZATION: usize = 4;

/// Deliveries that wait, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lanes: BTreeMap<Channel, Lane>,
    /// The first of each lane that has room, but for the room that all calls share.
    heads: BTreeSet<(Timestamp, Channel)>,
    /// Everything that waits.
    waiting: BTreeSet<(Timestamp, AlertId, Channel)>,
    /// Those that have lanes of webhooks.
    callers: BTreeMap<OrgId, Calls>,
    /// Calls to webhooks under way.
    calls: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// Whose webhook it is; of e-mail, `None`.
    caller: Option<OrgId>,
    waiting: BTreeSet<(Timestamp, AlertId)>,
    running: usize,
    /// What stands for it among the heads.
    head: Option<Timestamp>,
}

/// An organization's webhooks.
#[derive(Debug, Default)]
struct Calls {
    lanes: BTreeSet<Channel>,
    running: usize,
}

impl Lane {
    fn first(&self, most: usize) -> Option<Timestamp> {
        self.waiting.first().filter(|_| self.running < most).map(|(due, _)| *due)
    }
}

const fn most(channel: &Channel) -> usize {
    match channel {
        Channel::Email => MAILS,
        Channel::Webhook(_) => 1,
    }
}

impl Queue {
    /// A delivery of an organization's alert waits until it is due; `None`: of the platform's own.
    pub(crate) fn push(
        &mut self,
        due: Timestamp,
        id: AlertId,
        channel: Channel,
        organization: Option<&OrgId>,
    ) {
        let lane = self.lanes.entry(channel.clone()).or_default();
        lane.waiting.insert((due, id.clone()));
        if let (Channel::Webhook(_), Some(organization)) = (&channel, organization) {
            lane.caller = Some(organization.clone());
            self.callers.entry(organization.clone()).or_default().lanes.insert(channel.clone());
        }
        self.place(&channel);
        self.waiting.insert((due, id, channel));
    }

    /// A delivery waits no more.
    pub(crate) fn remove(&mut self, due: Timestamp, id: &AlertId, channel: &Channel) {
        self.waiting.remove(&(due, id.clone(), channel.clone()));
        if let Some(lane) = self.lanes.get_mut(channel) {
            lane.waiting.remove(&(due, id.clone()));
        }
        self.place(channel);
    }

    /// The next delivery that is due and whose endpoint is free; it is under way until [`Queue::done`].
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<(AlertId, Channel)> {
        let (_, channel) = self.head().filter(|(due, _)| *due <= now)?;
        let lane = self.lanes.get_mut(&channel)?;
        let (due, id) = lane.waiting.pop_first()?;
        lane.running = lane.running.saturating_add(1);
        self.called(&channel, |running| running.saturating_add(1));
        self.waiting.remove(&(due, id.clone(), channel.clone()));
        Some((id, channel))
    }

    /// A delivery is no longer under way.
    pub(crate) fn done(&mut self, channel: &Channel) {
        let Some(lane) = self.lanes.get_mut(channel).filter(|lane| lane.running > 0) else { return };
        lane.running = lane.running.saturating_sub(1);
        self.called(channel, |running| running.saturating_sub(1));
    }

    /// When the next one can begin.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.head().map(|(due, _)| due)
    }

    /// How many wait, and when the first of them was due.
    pub(crate) fn waiting(&self) -> (usize, Option<Timestamp>) {
        (self.waiting.len(), self.waiting.first().map(|(due, _, _)| *due))
    }

    /// Those of some alerts that wait, by any channel.
    pub(crate) fn waiting_of(&self, ids: &BTreeSet<AlertId>) -> BTreeSet<AlertId> {
        self.waiting.iter().filter(|(_, id, _)| ids.contains(id)).map(|(_, id, _)| id.clone()).collect()
    }

    /// The first that has room.
    fn head(&self) -> Option<(Timestamp, Channel)> {
        if self.calls < CALLS {
            return self.heads.first().cloned();
        }
        let due = self.lanes.get(&Channel::Email)?.head?;
        Some((due, Channel::Email))
    }

    /// Counts what is under way by a channel.
    fn called(&mut self, channel: &Channel, count: impl Fn(usize) -> usize) {
        let mut lanes = BTreeSet::from([channel.clone()]);
        match channel {
            Channel::Email => {}
            Channel::Webhook(_) => self.calls = count(self.calls),
        }
        let caller = self.lanes.get(channel).and_then(|lane| lane.caller.as_ref());
        if let Some(calls) = caller.and_then(|caller| self.callers.get_mut(caller)) {
            let full = calls.running >= CALLS_OF_ORGANIZATION;
            calls.running = count(calls.running);
            if full != (calls.running >= CALLS_OF_ORGANIZATION) {
                lanes.extend(calls.lanes.iter().cloned());
            }
        }
        for lane in &lanes {
            self.place(lane);
        }
    }

    /// Puts the first of a lane where it belongs among the heads; a lane that is empty goes.
    fn place(&mut self, channel: &Channel) {
        let Some(lane) = self.lanes.get_mut(channel) else { return };
        let calls = lane.caller.as_ref().and_then(|caller| self.callers.get(caller));
        let room = calls.is_none_or(|calls| calls.running < CALLS_OF_ORGANIZATION);
        let head = lane.first(most(channel)).filter(|_| room);
        if head != lane.head {
            if let Some(before) = lane.head {
                self.heads.remove(&(before, channel.clone()));
            }
            self.heads.extend(head.map(|head| (head, channel.clone())));
            lane.head = head;
        }
        if !lane.waiting.is_empty() || lane.running > 0 {
            return;
        }
        let Some(caller) = self.lanes.remove(channel).and_then(|lane| lane.caller) else { return };
        if let Some(calls) = self.callers.get_mut(&caller) {
            calls.lanes.remove(channel);
            if calls.lanes.is_empty() {
                self.callers.remove(&caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tollbook_schemas::id::WebhookId;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn at(seconds: i64) -> Timestamp {
        NOW.plus_seconds(seconds)
    }

    #[test]
    fn r7_3_a_webhook_gets_one_at_a_time_and_keeps_no_other_waiting() {
        let mut queue = Queue::default();
        let [first, second] = [1, 2].map(|number| Channel::Webhook(WebhookId::from_bits(number)));
        let ids = [1, 2, 3].map(AlertId::from_bits);
        queue.push(at(0), ids[0].clone(), first.clone(), Some(&OrgId::from_bits(1)));
        queue.push(at(1), ids[1].clone(), first.clone(), Some(&OrgId::from_bits(1)));
        queue.push(at(2), ids[2].clone(), second.clone(), Some(&OrgId::from_bits(1)));
        assert_eq!(queue.pop(at(5)), Some((ids[0].clone(), first.clone())));
        assert_eq!(queue.pop(at(5)), Some((ids[2].clone(), second.clone())));
        assert_eq!((queue.pop(at(5)), queue.next_due()), (None, None));
        queue.done(&first);
        assert_eq!(queue.next_due(), Some(at(1)));
        assert_eq!((queue.pop(at(0)), queue.waiting()), (None, (1, Some(at(1)))));
        assert_eq!(queue.pop(at(1)), Some((ids[1].clone(), first.clone())));
        queue.done(&first);
        queue.done(&second);
        assert_eq!((queue.waiting(), queue.lanes.len(), queue.heads.len()), ((0, None), 0, 0));
        assert_eq!((queue.callers.len(), queue.calls), (0, 0));
    }

    #[test]
    fn r7_3_several_mails_leave_at_once() {
        let mut queue = Queue::default();
        for number in 0..20 {
            queue.push(at(0), AlertId::from_bits(number), Channel::Email, None);
        }
        let popped = std::iter::from_fn(|| queue.pop(at(0))).count();
        assert_eq!((popped, queue.waiting().0), (MAILS, 20 - MAILS));
        queue.done(&Channel::Email);
        assert!(queue.pop(at(0)).is_some());
        let (due, id) = (at(0), AlertId::from_bits(19));
        queue.remove(due, &id, &Channel::Email);
        assert_eq!(queue.waiting().0, 20 - MAILS - 2);
    }

    fn webhook(number: u128) -> Channel {
        Channel::Webhook(WebhookId::from_bits(number))
    }

    #[test]
    fn r7_3_an_organization_with_endpoints_that_hang_keeps_no_other_waiting() {
        let mut queue = Queue::default();
        let [first, second] = [1, 2].map(OrgId::from_bits);
        for number in 0..10 {
            queue.push(at(0), AlertId::from_bits(number), webhook(number), Some(&first));
        }
        queue.push(at(1), AlertId::from_bits(10), webhook(10), Some(&second));
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop(at(1))).map(|(_, channel)| channel).collect();
        assert_eq!(popped.len(), CALLS_OF_ORGANIZATION + 1);
        assert!(popped.contains(&webhook(10)));
        assert_eq!(queue.next_due(), None);
        queue.push(at(0), AlertId::from_bits(11), webhook(11), Some(&first));
        assert_eq!(queue.pop(at(1)), None, "a lane that comes later finds no more room");
        queue.done(&popped[0]);
        assert_eq!(std::iter::from_fn(|| queue.pop(at(1))).count(), 1);
    }

    #[test]
    fn r7_3_endpoints_that_hang_leave_room_for_mail() {
        let mut queue = Queue::default();
        for number in 0..100 {
            let organization = OrgId::from_bits(number);
            queue.push(at(0), AlertId::from_bits(number), webhook(number), Some(&organization));
        }
        assert_eq!(std::iter::from_fn(|| queue.pop(at(0))).count(), CALLS);
        assert_eq!(queue.next_due(), None);
        queue.push(at(1), AlertId::from_bits(100), Channel::Email, None);
        assert_eq!(queue.next_due(), Some(at(1)));
        assert_eq!(queue.pop(at(1)), Some((AlertId::from_bits(100), Channel::Email)));
        assert_eq!(queue.pop(at(1)), None);
        queue.done(&webhook(0));
        assert_eq!(queue.pop(at(1)), Some((AlertId::from_bits(64), webhook(64))));
    }
}
