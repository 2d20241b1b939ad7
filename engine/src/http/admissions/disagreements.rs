//! Where the system that is to be replaced decided otherwise (R10.2).

use tollbook_schemas::id::{ModelName, OrgId};
use tollbook_schemas::time::Timestamp;

use crate::admission::{Decided, Disagreement};
use crate::http::answer::Json;
use crate::http::document::{Routes, Says};
use crate::http::problem::Problem;
use crate::http::reading::Reading;
use crate::http::shape::answer;

pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "listDisagreements",
        summary: "See where the system that is to be replaced decided otherwise",
        more: "Of requests that said what it decided. This node's last 1,000 since it started, oldest first.",
    };
    routes.read("/v1/admissions/disagreements", says, list);
}

answer! {
    /// Where the system that is to be replaced decided otherwise.
    pub(super) struct Disagreements {
        /// The last ones, oldest first.
        items: Vec<Differing>,
        /// How many there were since the start.
        total: u64,
    }
}

answer! {
    /// A request that was decided otherwise.
    pub(super) struct Differing {
        /// When.
        at: Timestamp,
        /// What that system decided.
        theirs: Decided,
        /// What is decided here: `admit`, or the code of the refusal.
        ours: String,
        /// What the customer would have been told here; null: nothing.
        message: Option<String>,
        /// The model.
        model: ModelName,
        /// The organization; null where the key is not known.
        organization: Option<OrgId>,
    }
}

impl Differing {
    fn of(known: Disagreement) -> Self {
        let Disagreement { at, theirs, ours, model, organization } = known;
        let code = ours.as_ref().map_or("admit", |refusal| refusal.code.as_str()).to_owned();
        let message = ours.map(|refusal| refusal.message());
        Self { at, theirs, ours: code, message, model, organization }
    }
}

async fn list(Reading { at, .. }: Reading<()>) -> Result<Json<Disagreements>, Problem> {
    at.caller.may_all()?;
    let (items, total) = at.node.admissions().disagreements();
    Ok(Json(Disagreements { items: items.into_iter().map(Differing::of).collect(), total }))
}

#[cfg(test)]
mod tests {
    use tollbook_schemas::id::ModelName;
    use tollbook_schemas::policy::Meters;

    use crate::admission::{AdmissionSettings, Admissions, Ask, Code, Decided, Refusal};
    use crate::clock::Clock;
    use crate::seldom::logged;

    /// They may be a tenth of all requests: the list and the count have them all.
    #[test]
    fn r10_2_disagreements_are_counted_each_and_logged_seldom() {
        let admissions = Admissions::new(AdmissionSettings::default(), Clock::System, 1);
        let (model, meters) = (ModelName::parse("kimi").unwrap(), Meters::new());
        let ask = Ask {
            api_key: "sk-1",
            ip: None,
            model: &model,
            input_tokens: 1,
            max_output_tokens: None,
            meters: &meters,
            request_id: None,
            lease_seconds: None,
            organizations: None,
        };
        let ours = [Code::KeyInvalid, Code::KeyRevoked].map(Refusal::bare);
        let lines = logged(|| {
            for ours in ours.iter().cycle().take(2_000) {
                assert!(!admissions.note_decided(&ask, Decided::Admit, Some(ours)));
            }
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        let (kept, total) = admissions.disagreements();
        assert_eq!((kept.len(), total), (1_000, 2_000));
    }
}
