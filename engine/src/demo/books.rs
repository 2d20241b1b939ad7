//! The demo's own books: what it sent, counted and priced without the engine's code, to be held against the ledger.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::Value;
use tollbook_schemas::usage::Tokens;

use super::DemoError;
use super::cast::{MODELS, Model, missing, text};

/// Organization, project, model and key, each by its id or name.
pub(super) type Cell = [String; 4];

/// Calls, tokens and money, summed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) requests: u64,
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) output: u64,
    pub(super) cost: Decimal,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.output = self.output.saturating_add(other.output);
        self.cost = (self.cost + other.cost).normalize();
    }

    /// One result of a spend answer.
    pub(super) fn of_answer(result: &Value) -> Result<Self, DemoError> {
        let count =
            |member| result.get(member).and_then(Value::as_u64).ok_or_else(|| missing(result, member));
        Ok(Self {
            requests: count("requests")?,
            input: count("input_tokens")?,
            cached: count("cached_input_tokens")?,
            output: count("output_tokens")?,
            cost: money(result, "cost")?,
        })
    }
}

/// What was sent and is to be booked, and how much was sent that is not.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    pub(super) cells: BTreeMap<Cell, Sums>,
    pub(super) total: Sums,
    /// Records sent once more.
    pub(super) repeated: u64,
    /// Records that nobody can book.
    pub(super) unbookable: u64,
    /// Recharges and vouchers of each organization, in the order of the cast.
    pub(super) paid_in: BTreeMap<usize, Decimal>,
}

impl Books {
    /// Notes a call that is sent for the first time.
    pub(super) fn book(&mut self, cell: Cell, model: &str, tokens: Tokens) {
        let cost = cost_of_call(model, tokens);
        let one = Sums {
            requests: 1,
            input: tokens.input,
            cached: tokens.cached_input,
            output: tokens.output,
            cost: cost.unwrap_or_default(),
        };
        self.cells.entry(cell).or_default().add(&one);
        self.total.add(&one);
    }

    /// Notes money that an organization paid in or was given.
    pub(super) fn pay_in(&mut self, organization: usize, amount: Decimal) {
        let all = self.paid_in.entry(organization).or_default();
        *all = (*all + amount).normalize();
    }

    /// What an organization's calls cost.
    pub(super) fn cost_of(&self, organization: &str) -> Decimal {
        let of_it = self.cells.iter().filter(|([of, ..], _)| of == organization);
        of_it.map(|(_, sums)| sums.cost).sum::<Decimal>().normalize()
    }

    /// The first difference to what the ledger says.
    pub(super) fn difference(&self, ledger: &BTreeMap<Cell, Sums>) -> Option<String> {
        let nothing = Sums::default();
        let mut cells = self.cells.keys().chain(ledger.keys());
        cells.find_map(|cell| {
            let sent = self.cells.get(cell).unwrap_or(&nothing);
            let booked = ledger.get(cell).unwrap_or(&nothing);
            (sent != booked).then(|| format!("{} sent {sent:?}, booked {booked:?}", cell.join(" ")))
        })
    }
}

/// What a call of a model that is on sale costs.
pub(super) fn cost_of_call(model: &str, tokens: Tokens) -> Option<Decimal> {
    MODELS.iter().find(|known| known.name == model).and_then(|model| cost(model, tokens))
}

/// Price per million times tokens, in plain decimal arithmetic.
fn cost(model: &Model, tokens: Tokens) -> Option<Decimal> {
    let per_million = |price: &str, tokens: u64| -> Option<Decimal> {
        let price: Decimal = price.parse().ok()?;
        price.checked_mul(Decimal::from(tokens))?.checked_div(Decimal::from(1_000_000))
    };
    let uncached = tokens.input.checked_sub(tokens.cached_input)?;
    let sum = per_million(model.input, uncached)?
        .checked_add(per_million(model.cached_input, tokens.cached_input)?)?
        .checked_add(per_million(model.output, tokens.output)?)?;
    Some(sum.normalize())
}

/// A member of an answer that is an amount.
pub(super) fn money(answer: &Value, member: &'static str) -> Result<Decimal, DemoError> {
    let amount: Decimal = text(answer, member)?.parse().map_err(|_| missing(answer, member))?;
    Ok(amount.normalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_11_a_call_costs_what_its_price_list_says() {
        let tokens = Tokens { input: 1_200, cached_input: 800, output: 310 };
        // 400 · 0.60 + 800 · 0.10 + 310 · 3.00 = 1250 millionths
        assert_eq!(cost(&MODELS[0], tokens), Some(Decimal::new(125, 5)));
        assert_eq!(cost(&MODELS[0], Tokens { input: 1, cached_input: 2, output: 0 }), None);
    }

    #[test]
    fn the_first_difference_is_named() {
        let cell = ["org", "proj", "kimi-k2.5", "ak"].map(str::to_owned);
        let mut books = Books::default();
        books.book(cell.clone(), "kimi-k2.5", Tokens { input: 10, cached_input: 0, output: 1 });
        let mut ledger = books.cells.clone();
        assert_eq!(books.difference(&ledger), None);
        ledger.get_mut(&cell).unwrap().cost += Decimal::new(1, 12);
        assert!(books.difference(&ledger).unwrap().starts_with("org proj kimi-k2.5 ak"));
        assert!(books.difference(&BTreeMap::new()).is_some());
        assert!(Books::default().difference(&books.cells).is_some());
    }
}
