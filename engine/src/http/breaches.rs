//! Breaches of a project's budgets: when each was crossed, when enforcement learned of that, when it refused first, and
//! what the delay cost (R6.2 to R6.5).

use std::borrow::Cow;
use std::collections::BTreeMap;

use tollbook_projections::budget::{Breach as Known, BreachEnd, EndedBreach};
use tollbook_projections::organization::{Organization, Project};
use tollbook_projections::state::State;
use tollbook_projections::view::BreachCursor;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::Period;
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::{Day, Timestamp};
use utoipa::openapi::schema::ObjectBuilder;

use super::answer::{Json, List};
use super::document::{Routes, Says};
use super::kinds::{choices, string};
use super::problem::Problem;
use super::reading::{Limit, Reading, view_of, viewed};
use super::shape::{Text, answer, request};
use crate::permission::Action;

/// Of the family that spend begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "listBreaches",
        summary: "See when a project's budgets were reached, and what the delay cost",
        more: "Those that are over and those that are not, by the day on which their period began. Of one that is not \
               over, `spent` and `overshoot` still grow.",
    };
    routes.read("/v1/organizations/{org}/projects/{project}/breaches", says, list);
}

request! {
    /// Which breaches.
    pub(super) struct BreachQuery {
        /// The first day on which the period may have begun; a monthly budget's begins on the first of the month.
        from: Option<Day>,
        /// The last such day.
        to: Option<Day>,
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this item: the `next_page` of the page before.
        after: Option<After>,
    }
}

answer! {
    /// A budget that was reached, from the entry that did it until its period ended or it was changed.
    pub(super) struct Breach {
        /// Of a day or of a month.
        period: Period,
        /// The first day of the period, in the organization's time zone.
        starts: Day,
        /// The budget.
        limit: Amount,
        /// When the usage was recorded by which settled and pending consumption reached the budget.
        crossed_at: Timestamp,
        /// The entry with that usage.
        crossed_in: LogPosition,
        /// From when requests are refused: when the consumption was settled, and the lag model's delay; null before it
        /// is settled.
        visible_at: Option<Timestamp>,
        /// The entry that settled it.
        visible_in: Option<LogPosition>,
        /// What had been consumed of the period by `visible_at`.
        spent_when_visible: Option<Amount>,
        /// When a request was refused for it first; null: none was.
        first_refused_at: Option<Timestamp>,
        /// What was consumed of the period until the breach ended, or by now.
        spent: Amount,
        /// What of that is beyond the budget.
        overshoot: Amount,
        /// When it ended; null: it has not.
        ended_at: Option<Timestamp>,
        /// Why it ended.
        ended: Option<BreachEnd>,
    }
}

choices! {
    Period = "Period", "What a budget is for." {
        Daily = "daily",
        Monthly = "monthly",
    }
    BreachEnd = "BreachEnd", "Why a breach is over: its period is, the budget was changed or removed, or usage was taken \
                 back that put consumption below it again." {
        PeriodOver = "period_over",
        BudgetChanged = "budget_changed",
        Corrected = "corrected",
    }
}

/// What is consumed of the breach's period by now.
fn spent(breach: &Known, project: &Project) -> Amount {
    project.spend.consumed(breach.period, breach.starts).unwrap_or(Amount::MAX)
}

impl Breach {
    /// One that is not over.
    pub(super) fn open(partition: PartitionId, breach: &Known, project: &Project) -> Self {
        Self::of(partition, breach, spent(breach, project))
    }

    /// One that is over.
    pub(super) fn ended(partition: PartitionId, ended: &EndedBreach) -> Self {
        let EndedBreach { breach, at, end, spent } = ended;
        Self { ended_at: Some(*at), ended: Some(*end), ..Self::of(partition, breach, *spent) }
    }

    fn of(partition: PartitionId, breach: &Known, spent: Amount) -> Self {
        let place = |position: Position| LogPosition { partition, position };
        Self {
            period: breach.period,
            starts: breach.starts,
            limit: breach.limit,
            crossed_at: breach.crossed_at,
            crossed_in: place(breach.crossed_in),
            visible_at: breach.visible.map(|visible| visible.at),
            visible_in: breach.visible.map(|visible| place(visible.from)),
            spent_when_visible: breach.visible.map(|visible| visible.spent),
            first_refused_at: breach.first_refused_at,
            spent,
            overshoot: breach.overshoot(spent),
            ended_at: None,
            ended: None,
        }
    }

    /// Its place among all of its project's.
    pub(super) fn place(&self) -> BreachCursor {
        (self.starts, self.crossed_in.position, self.period)
    }
}

/// The entry by which no breach ends later than those that State has: it ends with a decision about the organization, or
/// with a close.
pub(super) fn ended_by(state: &State, known: &Organization) -> Position {
    known.last_decision.max(state.head().last_config)
}

/// The place of a breach among its project's: `2026-11-20.17.daily`.
#[derive(Clone, Copy, Debug)]
pub(super) struct After(BreachCursor);

impl Text for After {
    const NAME: &'static str = "BreachPlace";

    fn schema() -> ObjectBuilder {
        string("The place of a breach: its period's first day, the position at which it was crossed, its period.")
            .pattern(Some(
                r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\.(0|[1-9][0-9]{0,18})\.(daily|monthly)$",
            ))
            .examples(["2026-11-20.17.daily"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let place = || {
            let (day, rest) = text.split_once('.')?;
            let (position, period) = rest.split_once('.')?;
            let position = Position(position.parse().ok()?);
            Some(Self((day.parse().ok()?, position, Period::of(period).ok()?)))
        };
        place().ok_or_else(|| "must be the `next_page` of the page before".to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        let Self((day, position, period)) = self;
        format!("{day}.{position}.{}", period.text()).into()
    }
}

async fn list(
    Reading { path: (org, project), query, at }: Reading<(OrgId, ProjectId), BreachQuery>,
) -> Result<Json<List<Breach>>, Problem> {
    let owner = at.node.owner_of(&org)?;
    let (partition, wanted) = (owner.partition(), project.clone());
    let read = at.state(&org, Action::SeeProjectFigures(project.clone()), move |state, known| {
        let project = known.projects.get(&wanted)?;
        let open = project.watch.breaches().iter().map(|breach| Breach::open(partition, breach, project));
        Some((open.collect::<Vec<_>>(), ended_by(state, known)))
    });
    let Some((open, through)) = read.await? else { return Err(Rejection::ProjectUnknown(project).into()) };
    // Rows reach the view a little after they are applied.
    owner.wait_viewed(through).await?;
    let view = view_of(&at.node, &org)?;
    let most = Limit::most(query.limit);
    let days =
        query.from.unwrap_or(Day::of_number(i32::MIN))..query.to.map_or(Day::of_number(i32::MAX), Day::next);
    let after = query.after.map(|After(place)| place);
    let range = days.clone();
    let ended = viewed(move || view.breaches(&org, &project, range, after, most.saturating_add(1))).await?;
    let asked =
        |breach: &Breach| days.contains(&breach.starts) && after.is_none_or(|after| breach.place() > after);
    let open = open.into_iter().filter(asked);
    // One that ended since State was read is in both: it is over.
    let all = open.chain(ended.iter().map(|ended| Breach::ended(partition, ended)));
    let by_place: BTreeMap<BreachCursor, Breach> = all.map(|breach| (breach.place(), breach)).collect();
    let more = by_place.len() > most;
    let items: Vec<Breach> = by_place.into_values().take(most).collect();
    let last = items.last().filter(|_| more);
    let next_page = last.map(|last| After(last.place()).text().into_owned());
    Ok(Json(List { items, next_page }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r6_5_a_place_is_read_as_it_is_written() {
        let text = "2026-11-20.17.daily";
        assert_eq!(After::of(text).unwrap().text(), text);
        for bad in
            ["", "2026-11-20", "2026-11-20.17", "2026-11-20.x.daily", "2026-11-20.17.weekly", "20.17.daily"]
        {
            assert!(After::of(bad).is_err(), "{bad}");
        }
    }
}
