//! What is due when: one lane per endpoint, so that one that hangs keeps nobody else waiting.

use std::collections::{BTreeMap, BTreeSet};

use tollbook_schemas::id::AlertId;
use tollbook_schemas::time::Timestamp;

use super::record::Channel;

/// E-mails under way at the same time; of a webhook, one.
const MAILS: usize = 8;

/// Deliveries that wait, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lanes: BTreeMap<Channel, Lane>,
    /// The first of each lane that has room.
    heads: BTreeSet<(Timestamp, Channel)>,
    /// Everything that waits.
    waiting: BTreeSet<(Timestamp, AlertId, Channel)>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<(Timestamp, AlertId)>,
    running: usize,
}

impl Lane {
    fn head(&self, most: usize) -> Option<Timestamp> {
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
    /// A delivery waits until it is due.
    pub(crate) fn push(&mut self, due: Timestamp, id: AlertId, channel: Channel) {
        self.change(&channel, |lane| {
            lane.waiting.insert((due, id.clone()));
        });
        self.waiting.insert((due, id, channel));
    }

    /// A delivery waits no more.
    pub(crate) fn remove(&mut self, due: Timestamp, id: &AlertId, channel: &Channel) {
        self.waiting.remove(&(due, id.clone(), channel.clone()));
        self.change(channel, |lane| {
            lane.waiting.remove(&(due, id.clone()));
        });
    }

    /// The next delivery that is due and whose endpoint is free; it is under way until [`Queue::done`].
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<(AlertId, Channel)> {
        let (due, channel) = self.heads.first().filter(|(due, _)| *due <= now).cloned()?;
        let mut popped = None;
        self.change(&channel, |lane| {
            popped = lane.waiting.pop_first();
            lane.running = lane.running.saturating_add(1);
        });
        let (_, id) = popped?;
        self.waiting.remove(&(due, id.clone(), channel.clone()));
        Some((id, channel))
    }

    /// A delivery is no longer under way.
    pub(crate) fn done(&mut self, channel: &Channel) {
        self.change(channel, |lane| lane.running = lane.running.saturating_sub(1));
    }

    /// When the next one can begin.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.heads.first().map(|(due, _)| *due)
    }

    /// How many wait, and when the first of them was due.
    pub(crate) fn waiting(&self) -> (usize, Option<Timestamp>) {
        (self.waiting.len(), self.waiting.first().map(|(due, _, _)| *due))
    }

    fn change(&mut self, channel: &Channel, change: impl FnOnce(&mut Lane)) {
        let lane = self.lanes.entry(channel.clone()).or_default();
        let before = lane.head(most(channel));
        change(lane);
        let after = lane.head(most(channel));
        if lane.waiting.is_empty() && lane.running == 0 {
            self.lanes.remove(channel);
        }
        if before != after {
            if let Some(before) = before {
                self.heads.remove(&(before, channel.clone()));
            }
            self.heads.extend(after.map(|after| (after, channel.clone())));
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
        queue.push(at(0), ids[0].clone(), first.clone());
        queue.push(at(1), ids[1].clone(), first.clone());
        queue.push(at(2), ids[2].clone(), second.clone());
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
    }

    #[test]
    fn r7_3_several_mails_leave_at_once() {
        let mut queue = Queue::default();
        for number in 0..20 {
            queue.push(at(0), AlertId::from_bits(number), Channel::Email);
        }
        let popped = std::iter::from_fn(|| queue.pop(at(0))).count();
        assert_eq!((popped, queue.waiting().0), (MAILS, 20 - MAILS));
        queue.done(&Channel::Email);
        assert!(queue.pop(at(0)).is_some());
        let (due, id) = (at(0), AlertId::from_bits(19));
        queue.remove(due, &id, &Channel::Email);
        assert_eq!(queue.waiting().0, 20 - MAILS - 2);
    }
}
