use tollbook_schemas::time::Zone;

use super::told::reached;
use super::*;

/// One project, its budgets, and everything that was told and ended.
struct Shop {
    watch: Watch,
    spend: ProjectSpend,
    calendar: Calendar,
    id: ProjectId,
    name: DisplayName,
    now: Timestamp,
    position: u64,
    delay_seconds: u32,
    at_once: bool,
    told: Vec<String>,
    ended: Vec<EndedBreach>,
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn text(alert: &AlertData) -> String {
    match alert {
        AlertData::BudgetWarning(told) => format!("80 {:?} {}/{}", told.period, told.settled, told.limit),
        AlertData::BudgetReached(told) => format!("100 {:?} {}/{}", told.period, told.settled, told.limit),
        AlertData::SpendNotification { period, amount, settled, .. } => {
            format!("{period:?} {settled} at {amount}")
        }
        AlertData::BalanceLow { .. }
        | AlertData::TierChanged { .. }
        | AlertData::VoucherGranted { .. }
        | AlertData::VoucherExpiring { .. }
        | AlertData::VoucherExpired { .. }
        | AlertData::KeyInvalidated { .. }
        | AlertData::RateLimitsScaled(_)
        | AlertData::UsageQuarantined { .. }
        | AlertData::WebhookDisabled { .. } => panic!("{alert:?}"),
    }
}

impl Shop {
    fn new() -> Self {
        Self::in_zone("UTC")
    }

    fn in_zone(zone: &str) -> Self {
        Self {
            watch: Watch::default(),
            spend: ProjectSpend::default(),
            calendar: Calendar::new(zone.parse::<Zone>().unwrap()),
            id: ProjectId::from_bits(1),
            name: DisplayName::parse("shop").unwrap(),
            now: time("2026-11-20T10:00:00Z"),
            position: 0,
            delay_seconds: 0,
            at_once: false,
            told: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn today(&self) -> Day {
        self.calendar.day(self.now)
    }

    /// One entry at an instant.
    fn entry(
        &mut self,
        at: &str,
        act: impl FnOnce(&mut Watch, &mut ProjectSpend, Look<'_>, &mut Seen) -> Result<(), Corrupt>,
    ) {
        self.now = time(at);
        self.position += 1;
        let look = Look {
            at: At { position: Position(self.position), recorded_at: self.now },
            today: self.calendar.day(self.now),
            calendar: &self.calendar,
            delay_seconds: self.delay_seconds,
            project: &self.id,
            name: &self.name,
        };
        let mut seen = Seen::default();
        act(&mut self.watch, &mut self.spend, look, &mut seen).unwrap();
        self.told.extend(seen.alerts.iter().map(text));
        self.ended.extend(seen.ended);
    }

    fn book(&mut self, at: &str, cost: &str) {
        let today = self.calendar.day(time(at));
        self.book_on(at, today, cost);
    }

    fn book_on(&mut self, at: &str, day: Day, cost: &str) {
        let at_once = self.at_once;
        self.entry(at, |watch, spend, look, seen| {
            spend.add_pending(day, amount(cost)).unwrap();
            if at_once { watch.settle(spend, look, seen) } else { watch.consumed(spend, look, seen) }
        });
    }

    fn close(&mut self, at: &str) {
        self.entry(at, Watch::settle);
    }

    fn set(&mut self, at: &str, daily: Option<&str>, monthly: Option<&str>, enforcement: Enforcement) {
        let budgets = Budgets { daily: daily.map(amount), monthly: monthly.map(amount), enforcement };
        let delay = std::mem::take(&mut self.delay_seconds);
        self.entry(at, |watch, spend, look, seen| watch.set_budgets(budgets, spend, look, seen));
        self.delay_seconds = delay;
    }

    fn notify(&mut self, at: &str, daily: &[&str], monthly: &[&str]) {
        let amounts = |texts: &[&str]| texts.iter().map(|text| amount(text)).collect();
        let notifications = Notifications { daily: amounts(daily), monthly: amounts(monthly) };
        self.entry(at, |watch, spend, look, seen| {
            watch.set_notifications(notifications, spend, look, seen);
            Ok(())
        });
    }

    fn stop(&self, period: Period) -> Option<Stop> {
        self.watch.stop(&self.spend, period, &self.calendar, self.today())
    }

    /// Whether requests are refused at an instant.
    fn refuses(&self, at: &str) -> bool {
        let at = time(at);
        let today = self.calendar.day(at);
        let stops = PERIODS.map(|period| self.watch.stop(&self.spend, period, &self.calendar, today));
        stops.into_iter().flatten().any(|stop| stop.from <= at && at < stop.resets_at)
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// The only breach that ended since this was last asked: what it came to.
    fn over(&mut self) -> (BreachEnd, Amount, Amount) {
        let ended = std::mem::take(&mut self.ended);
        let [ended] = ended.as_slice() else { panic!("{ended:?}") };
        (ended.end, ended.spent, ended.overshoot())
    }
}

use Enforcement::{Settled, Strict};
use Period::{Daily, Monthly};

#[test]
fn r6_3_a_budget_is_crossed_seen_at_the_close_and_over_with_its_day() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    shop.book("2026-11-20T10:02:00Z", "9.99");
    assert_eq!(shop.watch.breaches(), []);
    shop.book("2026-11-20T10:03:00Z", "0.01");
    let crossed = Breach {
        period: Daily,
        starts: day("2026-11-20"),
        limit: amount("10"),
        crossed_at: time("2026-11-20T10:03:00Z"),
        crossed_in: Position(3),
        visible: None,
        first_refused_at: None,
    };
    assert_eq!(shop.watch.breaches(), std::slice::from_ref(&crossed), "at the budget is beyond it");
    shop.book("2026-11-20T10:07:00Z", "2");
    assert_eq!(shop.stop(Daily), None, "nothing of it is settled");
    shop.close("2026-11-20T10:10:00Z");
    let visible = Visible { from: Position(5), at: time("2026-11-20T10:10:00Z"), spent: amount("12") };
    assert_eq!(shop.watch.breaches(), [Breach { visible: Some(visible), ..crossed.clone() }]);
    let stop = Stop {
        period: Daily,
        limit: amount("10"),
        spent: amount("12"),
        visible_from: Position(5),
        from: time("2026-11-20T10:10:00Z"),
        resets_at: time("2026-11-21T00:00:00Z"),
        refusal_noted: false,
    };
    assert_eq!(shop.stop(Daily), Some(stop));
    assert_eq!(shop.told(), ["80 Daily 12/10", "100 Daily 12/10"]);
    // What was admitted before, and is billed after.
    shop.book("2026-11-20T10:11:00Z", "0.5");
    assert_eq!(shop.watch.breaches()[0].visible, Some(visible), "what was spent by then stays");
    assert!(shop.refuses("2026-11-20T23:59:59.999999999Z") && !shop.refuses("2026-11-21T00:00:00Z"));
    shop.close("2026-11-20T10:20:00Z");
    assert_eq!((shop.told().len(), shop.ended.len()), (0, 0));
    shop.close("2026-11-21T00:00:00Z");
    let ended = shop.ended[0].clone();
    assert_eq!(ended.breach, Breach { visible: Some(visible), ..crossed });
    assert_eq!(ended.at, time("2026-11-21T00:00:00Z"));
    assert_eq!(shop.over(), (BreachEnd::PeriodOver, amount("12.5"), amount("2.5")));
    assert_eq!((shop.watch.breaches(), shop.stop(Daily)), (&[][..], None));
    // The next day begins at nothing.
    shop.book("2026-11-21T00:01:00Z", "9");
    shop.close("2026-11-21T00:10:00Z");
    assert_eq!(shop.told(), ["80 Daily 9/10"]);
    assert!(!shop.refuses("2026-11-21T00:10:00Z"));
}

#[test]
fn r6_3_a_close_is_visible_after_the_delay_and_what_comes_until_then_was_spent_by_then() {
    let mut shop = Shop::new();
    shop.delay_seconds = 300;
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    shop.book("2026-11-20T10:03:00Z", "10");
    shop.close("2026-11-20T10:10:00Z");
    assert!(!shop.refuses("2026-11-20T10:14:59.999999999Z") && shop.refuses("2026-11-20T10:15:00Z"));
    shop.book("2026-11-20T10:14:59Z", "3");
    shop.book("2026-11-20T10:15:00Z", "4");
    let visible = shop.watch.breaches()[0].visible.unwrap();
    assert_eq!((visible.from, visible.spent), (Position(3), amount("13")));
    shop.close("2026-11-20T10:20:00Z");
    assert_eq!(shop.watch.breaches()[0].visible, Some(visible), "once");
    shop.close("2026-11-21T00:00:00Z");
    assert_eq!(shop.over(), (BreachEnd::PeriodOver, amount("17"), amount("7")));
}

#[test]
fn r6_3_without_cycles_what_crosses_is_seen_at_once_but_for_the_delay() {
    for delay_seconds in [0, 60] {
        let mut shop = Shop::new();
        (shop.at_once, shop.delay_seconds) = (true, delay_seconds);
        shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
        shop.book("2026-11-20T10:03:00Z", "11");
        let breach = shop.watch.breaches()[0].clone();
        let at = breach.crossed_at.plus_seconds(delay_seconds.into());
        let visible = Visible { from: breach.crossed_in, at, spent: amount("11") };
        assert_eq!(breach.visible, Some(visible));
        shop.book("2026-11-20T10:03:30Z", "1");
        let by_then = if delay_seconds == 0 { "11" } else { "12" };
        assert_eq!(shop.watch.breaches()[0].visible, Some(Visible { spent: amount(by_then), ..visible }));
        // Nothing closes: the next entry of the project ends it.
        assert!(!shop.refuses("2026-11-21T00:00:00Z"));
        shop.book("2026-11-21T07:00:00Z", "1");
        assert_eq!(shop.over(), (BreachEnd::PeriodOver, amount("12"), amount("2")));
    }
}

#[test]
fn r6_3_strict_enforcement_compares_what_is_pending_too() {
    let mut shop = Shop::new();
    shop.delay_seconds = 300;
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Strict);
    shop.book("2026-11-20T10:03:00Z", "8");
    assert_eq!(shop.told(), ["80 Daily 8/10"]);
    shop.book("2026-11-20T10:04:00Z", "2.5");
    assert_eq!(shop.told(), ["100 Daily 10.5/10"]);
    let stop = shop.stop(Daily).unwrap();
    assert_eq!((stop.from, stop.spent), (time("2026-11-20T10:04:00Z"), amount("10.5")));
    assert_eq!(stop.visible_from, Position(3));
    shop.close("2026-11-20T10:10:00Z");
    assert_eq!((shop.stop(Daily), shop.told().len()), (Some(stop), 0), "the close says nothing new");
    // What is taken back counts at once.
    shop.book("2026-11-20T10:11:00Z", "-1");
    assert_eq!(shop.over(), (BreachEnd::Corrected, amount("9.5"), Amount::ZERO));
    assert_eq!(shop.stop(Daily), None);
}

#[test]
fn r6_2_a_breach_of_the_last_cycle_of_a_day_was_never_seen_and_still_says_what_it_cost() {
    let mut shop = Shop::in_zone("Asia/Kolkata");
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    // The day there ends at 18:30.
    shop.book("2026-11-20T18:25:00Z", "11");
    shop.close("2026-11-20T18:30:00.5Z");
    let ended = shop.ended[0].clone();
    assert_eq!((ended.breach.visible, ended.at), (None, time("2026-11-20T18:30:00Z")));
    assert_eq!(shop.over(), (BreachEnd::PeriodOver, amount("11"), amount("1")));
    assert!(shop.told().is_empty() && !shop.refuses("2026-11-20T18:31:00Z"));
}

#[test]
fn r6_4_late_usage_of_a_period_that_ended_neither_blocks_nor_notifies() {
    let mut shop = Shop::new();
    shop.set("2026-11-30T10:00:00Z", Some("10"), Some("20"), Settled);
    shop.notify("2026-11-30T10:00:00Z", &["1"], &["1"]);
    shop.close("2026-12-01T00:10:00Z");
    shop.book_on("2026-12-01T00:11:00Z", day("2026-11-30"), "100");
    shop.close("2026-12-01T00:20:00Z");
    shop.book_on("2026-12-01T00:21:00Z", day("2026-11-30"), "100");
    shop.close("2026-12-01T00:30:00Z");
    assert_eq!((shop.told(), shop.ended.len(), shop.watch.breaches()), (vec![], 0, &[][..]));
    // Of a day that ended in a month that goes on it counts for the month alone.
    shop.book_on("2026-12-02T00:21:00Z", day("2026-12-01"), "21");
    shop.close("2026-12-02T00:30:00Z");
    assert_eq!(shop.told(), ["Monthly 21 at 1", "80 Monthly 21/20", "100 Monthly 21/20"]);
    assert!(shop.stop(Daily).is_none() && shop.stop(Monthly).is_some());
}

#[test]
fn r6_2_late_usage_before_the_first_close_counts_as_overshoot_and_after_it_no_more() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    shop.book("2026-11-20T23:58:00Z", "11");
    shop.book_on("2026-11-21T00:00:01Z", day("2026-11-20"), "2");
    shop.close("2026-11-21T00:10:00Z");
    assert_eq!(shop.over(), (BreachEnd::PeriodOver, amount("13"), amount("3")));
    shop.book_on("2026-11-21T00:11:00Z", day("2026-11-20"), "4");
    shop.close("2026-11-21T00:20:00Z");
    assert_eq!((shop.ended.len(), shop.watch.breaches()), (0, &[][..]));
}

#[test]
fn r4_8_usage_that_is_taken_back_ends_a_breach() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    shop.book("2026-11-20T10:01:00Z", "11");
    // Before it was seen: at once.
    shop.book("2026-11-20T10:02:00Z", "-2");
    assert_eq!(shop.over(), (BreachEnd::Corrected, amount("9"), Amount::ZERO));
    shop.book("2026-11-20T10:03:00Z", "3");
    assert_eq!(shop.watch.breaches()[0].crossed_at, time("2026-11-20T10:03:00Z"));
    shop.close("2026-11-20T10:10:00Z");
    assert_eq!(shop.told(), ["80 Daily 12/10", "100 Daily 12/10"]);
    // After that: when it is settled, as enforcement knows nothing else.
    shop.book("2026-11-20T10:11:00Z", "-3");
    assert!(shop.refuses("2026-11-20T10:12:00Z"));
    shop.close("2026-11-20T10:20:00Z");
    assert_eq!(shop.over(), (BreachEnd::Corrected, amount("9"), Amount::ZERO));
    assert!(!shop.refuses("2026-11-20T10:20:00Z"));
    shop.book("2026-11-20T10:21:00Z", "1");
    shop.close("2026-11-20T10:30:00Z");
    assert!(shop.refuses("2026-11-20T10:30:00Z"));
    assert!(shop.told().is_empty(), "the day's budget was told of");
}

#[test]
fn r6_2_a_budget_of_nothing_refuses_everything_from_the_beginning_of_every_day() {
    for enforcement in [Settled, Strict] {
        let mut shop = Shop::new();
        shop.set("2026-11-20T10:00:00Z", Some("0"), None, enforcement);
        for at in ["2026-11-20T10:00:00Z", "2026-11-21T00:00:00Z", "2026-11-25T00:00:00Z"] {
            assert!(shop.refuses(at), "{at}");
        }
        assert!(shop.stop(Daily).unwrap().refusal_noted, "there is no breach to note it of");
        shop.close("2026-11-20T10:10:00Z");
        assert_eq!((shop.told(), shop.watch.breaches()), (vec![], &[][..]), "nobody overspent");
        // What was under way is a breach as any other.
        shop.book("2026-11-20T10:11:00Z", "2");
        assert!(shop.refuses("2026-11-20T10:11:00Z"));
        shop.close("2026-11-20T10:20:00Z");
        assert_eq!(shop.told(), ["80 Daily 2/0", "100 Daily 2/0"]);
        assert!(!shop.stop(Daily).unwrap().refusal_noted);
        assert!(shop.refuses("2026-11-20T10:15:00Z"), "never a gap");
        shop.close("2026-11-21T00:00:00Z");
        assert_eq!(shop.over(), (BreachEnd::PeriodOver, amount("2"), amount("2")));
        assert!(shop.refuses("2026-11-21T00:00:00Z"));
        shop.set("2026-11-21T00:01:00Z", None, None, enforcement);
        assert!(!shop.refuses("2026-11-21T00:01:00Z"));
    }
}

#[test]
fn r6_2_raising_or_removing_a_budget_opens_at_once_and_lowering_it_closes_at_once() {
    let mut shop = Shop::new();
    shop.delay_seconds = 300;
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    shop.book("2026-11-20T10:01:00Z", "12");
    shop.close("2026-11-20T10:10:00Z");
    shop.told();
    shop.set("2026-11-20T10:16:00Z", Some("13"), None, Settled);
    assert_eq!(shop.over(), (BreachEnd::BudgetChanged, amount("12"), amount("2")));
    assert_eq!((shop.stop(Daily), shop.told()), (None, vec!["80 Daily 12/13".into()]));
    // Not enough: it is breached again, and known already.
    shop.set("2026-11-20T10:17:00Z", Some("12"), None, Settled);
    assert_eq!(shop.told(), ["80 Daily 12/12", "100 Daily 12/12"]);
    let breach = shop.watch.breaches()[0].clone();
    let at = time("2026-11-20T10:17:00Z");
    assert_eq!((breach.crossed_at, breach.crossed_in), (at, Position(5)));
    assert_eq!(breach.visible, Some(Visible { from: Position(5), at, spent: amount("12") }));
    // Raised to what is pending: crossed here, seen at the close.
    shop.book("2026-11-20T10:18:00Z", "1");
    shop.set("2026-11-20T10:19:00Z", Some("13"), None, Settled);
    assert_eq!(shop.over(), (BreachEnd::BudgetChanged, amount("13"), amount("1")));
    assert_eq!((shop.watch.breaches()[0].crossed_in, shop.stop(Daily)), (Position(7), None));
    shop.close("2026-11-20T10:20:00Z");
    assert!(shop.refuses("2026-11-20T10:25:00Z") && !shop.refuses("2026-11-20T10:24:59Z"));
    shop.set("2026-11-20T10:30:00Z", None, None, Settled);
    assert_eq!(shop.over(), (BreachEnd::BudgetChanged, amount("13"), Amount::ZERO));
    assert_eq!((shop.stop(Daily), shop.watch.is_idle()), (None, true));
    shop.book("2026-11-20T10:31:00Z", "100");
    shop.close("2026-11-20T10:40:00Z");
    assert_eq!(shop.watch.breaches(), []);
}

#[test]
fn r6_2_days_and_months_are_looked_at_apart() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), Some("15"), Settled);
    shop.book("2026-11-20T10:01:00Z", "11");
    shop.close("2026-11-20T10:10:00Z");
    assert!(shop.stop(Daily).is_some() && shop.stop(Monthly).is_none());
    shop.close("2026-11-21T00:00:00Z");
    shop.book("2026-11-21T10:00:00Z", "5");
    shop.close("2026-11-21T10:10:00Z");
    assert!(shop.stop(Daily).is_none());
    let stop = shop.stop(Monthly).unwrap();
    assert_eq!((stop.spent, stop.resets_at), (amount("16"), time("2026-12-01T00:00:00Z")));
    // A day's budget that is set leaves the month's breach alone.
    shop.ended.clear();
    shop.set("2026-11-21T10:11:00Z", Some("5"), Some("15"), Settled);
    assert_eq!(shop.stop(Monthly), Some(stop));
    assert_eq!((shop.stop(Daily).unwrap().spent, shop.ended.len()), (amount("5"), 0));
    shop.close("2026-12-01T00:00:00Z");
    let over: Vec<_> = shop.ended.iter().map(|ended| (ended.breach.period, ended.spent)).collect();
    assert_eq!(over, [(Monthly, amount("16")), (Daily, amount("5"))]);
    assert_eq!(shop.ended[1].at, time("2026-11-22T00:00:00Z"), "whenever it was written down");
}

#[test]
fn r7_2_80_and_100_percent_are_told_once_for_an_amount_and_a_period() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    for (minute, cost, told) in [
        (10, "7.999999999999", &[][..]),
        (20, "0.000000000001", &["80 Daily 8/10"]),
        (30, "1.999999999999", &[]),
        (40, "0.000000000001", &["100 Daily 10/10"]),
        (50, "1", &[]),
    ] {
        shop.book(&format!("2026-11-20T10:{:02}:00Z", minute - 5), cost);
        shop.close(&format!("2026-11-20T10:{minute}:00Z"));
        assert_eq!(shop.told(), told);
    }
    // What is compared may change without another amount: that says nothing new.
    shop.set("2026-11-20T11:00:00Z", Some("10"), None, Strict);
    assert!(shop.told().is_empty());
    shop.set("2026-11-20T11:01:00Z", Some("13"), None, Strict);
    assert_eq!(shop.told(), ["80 Daily 11/13"]);
    shop.book("2026-11-21T11:02:00Z", "13");
    assert_eq!(shop.told(), ["80 Daily 13/13", "100 Daily 13/13"], "another day");
}

#[test]
fn r6_3_what_is_compared_may_change_and_the_breach_stays_what_it_was() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    shop.book("2026-11-20T10:01:00Z", "11");
    shop.set("2026-11-20T10:02:00Z", Some("10"), None, Strict);
    let breach = shop.watch.breaches()[0].clone();
    assert_eq!(breach.crossed_at, time("2026-11-20T10:01:00Z"));
    let at = time("2026-11-20T10:02:00Z");
    assert_eq!(breach.visible, Some(Visible { from: Position(3), at, spent: amount("11") }));
    // Nothing of it is settled, so back again nothing is known of it.
    shop.set("2026-11-20T10:03:00Z", Some("10"), None, Settled);
    assert_eq!(shop.over(), (BreachEnd::BudgetChanged, amount("11"), amount("1")));
    assert_eq!(shop.watch.breaches()[0].visible, None);
    shop.close("2026-11-20T10:10:00Z");
    let visible = shop.watch.breaches()[0].visible;
    shop.set("2026-11-20T10:11:00Z", Some("10"), None, Strict);
    assert_eq!((shop.watch.breaches()[0].visible, shop.ended.len()), (visible, 0));
    // Strict does not wait for what is left of a delay.
    let mut shop = Shop::new();
    shop.delay_seconds = 300;
    shop.set("2026-11-20T10:00:00Z", Some("10"), None, Settled);
    shop.book("2026-11-20T10:01:00Z", "11");
    shop.close("2026-11-20T10:10:00Z");
    shop.set("2026-11-20T10:11:00Z", Some("10"), None, Strict);
    assert!(shop.refuses("2026-11-20T10:11:00Z"));
}

#[test]
fn r6_4_notifications_once_for_an_amount_and_a_period() {
    let mut shop = Shop::new();
    shop.notify("2026-11-20T10:00:00Z", &["5", "10"], &["12"]);
    shop.book("2026-11-20T10:01:00Z", "5");
    assert!(shop.told().is_empty(), "nothing is settled");
    shop.close("2026-11-20T10:10:00Z");
    assert_eq!(shop.told(), ["Daily 5 at 5"]);
    shop.book("2026-11-20T10:11:00Z", "7");
    shop.close("2026-11-20T10:20:00Z");
    assert_eq!(shop.told(), ["Daily 12 at 10", "Monthly 12 at 12"]);
    // What is reached when it is set is told, unless it was.
    shop.notify("2026-11-20T10:21:00Z", &["5", "6", "13"], &[]);
    assert_eq!(shop.told(), ["Daily 12 at 6"]);
    shop.notify("2026-11-20T10:22:00Z", &["10"], &["12"]);
    assert!(shop.told().is_empty());
    // Another day, the same month.
    shop.book("2026-11-21T10:11:00Z", "10");
    shop.close("2026-11-21T10:20:00Z");
    assert_eq!(shop.told(), ["Daily 10 at 10"]);
    shop.book("2026-12-01T10:11:00Z", "12");
    shop.close("2026-12-01T10:20:00Z");
    assert_eq!(shop.told(), ["Daily 12 at 10", "Monthly 12 at 12"]);
    assert_eq!(shop.watch.breaches(), [], "nobody is stopped by a notification");
}

#[test]
fn r6_3_what_occurred_ahead_of_its_day_counts_when_that_has_come() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), Some("100"), Settled);
    // Settled before midnight, so at midnight it is known.
    shop.book_on("2026-11-20T23:56:00Z", day("2026-11-21"), "11");
    shop.close("2026-11-20T23:57:00Z");
    assert!(shop.watch.breaches().is_empty() && !shop.refuses("2026-11-20T23:59:59Z"));
    assert!(shop.refuses("2026-11-21T00:00:00Z"));
    shop.book("2026-11-21T00:00:30Z", "1");
    assert_eq!(shop.watch.breaches()[0].crossed_at, time("2026-11-21T00:00:30Z"));
    shop.close("2026-11-21T00:01:00Z");
    assert!(shop.refuses("2026-11-21T00:01:00Z"));
    assert_eq!(shop.told(), ["80 Daily 12/10", "100 Daily 12/10"]);
    // Pending at midnight, it is settled by the first close.
    shop.book_on("2026-11-21T23:58:00Z", day("2026-11-22"), "11");
    assert_eq!(shop.watch.breaches().len(), 1);
    shop.close("2026-11-22T00:00:00Z");
    assert!(shop.refuses("2026-11-22T00:00:00Z"));
}

#[test]
fn r6_2_periods_end_with_the_zone_that_is_in_force_then() {
    let mut shop = Shop::in_zone("America/Sao_Paulo");
    shop.calendar.change("Asia/Tokyo".parse().unwrap(), "2026-12".parse().unwrap());
    shop.set("2026-11-30T10:00:00Z", Some("10"), Some("10"), Settled);
    shop.book("2026-11-30T20:00:00Z", "10");
    shop.close("2026-11-30T20:10:00Z");
    // The month ends as it began, in São Paulo.
    let end = time("2026-12-01T03:00:00Z");
    assert_eq!(PERIODS.map(|period| shop.stop(period).unwrap().resets_at), [end, end]);
    assert!(shop.refuses("2026-12-01T02:59:59Z") && !shop.refuses("2026-12-01T03:00:00Z"));
    shop.close("2026-12-01T03:00:00Z");
    assert_eq!(shop.ended.iter().map(|ended| ended.at).collect::<Vec<_>>(), [end, end]);
    // And the first day of the next one ends in Tokyo.
    shop.book("2026-12-01T04:00:00Z", "10");
    shop.close("2026-12-01T04:10:00Z");
    assert_eq!(shop.stop(Daily).unwrap().resets_at, time("2026-12-01T15:00:00Z"));
    assert_eq!(shop.stop(Monthly).unwrap().resets_at, time("2026-12-31T15:00:00Z"));
}

#[test]
fn r6_5_the_first_refusal_of_a_breach_is_kept() {
    let mut shop = Shop::new();
    shop.set("2026-11-20T10:00:00Z", Some("10"), Some("10"), Settled);
    shop.book("2026-11-20T10:01:00Z", "10");
    shop.close("2026-11-20T10:10:00Z");
    let from = shop.stop(Daily).unwrap().visible_from;
    let first = time("2026-11-20T10:10:01Z");
    shop.watch.refused(Daily, Position(99), time("2026-11-20T10:10:00Z"));
    assert!(!shop.stop(Daily).unwrap().refusal_noted, "of another breach");
    shop.watch.refused(Daily, from, first);
    shop.watch.refused(Daily, from, time("2026-11-20T10:10:02Z"));
    assert_eq!(shop.watch.breach(Daily, day("2026-11-20")).unwrap().first_refused_at, Some(first));
    assert_eq!(shop.watch.breach(Monthly, day("2026-11-01")).unwrap().first_refused_at, None);
    assert!(shop.stop(Daily).unwrap().refusal_noted);
    shop.close("2026-11-21T00:00:00Z");
    assert_eq!(shop.ended[0].breach.first_refused_at, Some(first));
}

#[test]
fn r4_9_the_steps_of_a_budget_are_exact_at_both_ends_of_the_range() {
    let step = |limit: &str, spent: &str| reached(amount(limit), amount(spent));
    assert_eq!(step("0.000000000001", "0.000000000001"), 100);
    assert_eq!(step("0.000000000002", "0.000000000001"), 0);
    assert_eq!(step("10", "7.999999999999"), 0);
    assert_eq!(reached(Amount::MAX, Amount::MAX), 100);
    assert_eq!(reached(Amount::MAX, amount("1")), 0);
    assert_eq!((step("0", "0"), step("0", "-1"), step("5", "-1")), (0, 0, 0));
}
