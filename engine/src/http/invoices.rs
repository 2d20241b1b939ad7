//! Invoices over recharges, and credit notes about what was paid back of them (R4.10).

use tollbook_projections::movement::{Movement, MovementKey, What};
use tollbook_projections::view::{View, ViewError};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, MoneyEvent};
use tollbook_schemas::id::{InvoiceId, OrgId, RechargeId, Reference};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::{Month, Timestamp};

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::choices;
use super::problem::Problem;
use super::reading::{Limit, Reading, view_of, viewed};
use super::shape::{IfAny, answer, request};
use super::write::{Created, Positioned, Write};
use crate::clock;
use crate::node::Node;
use crate::permission::Action;

/// Of the family that statements begin.
pub(super) fn routes(routes: &mut Routes) {
    let path = "/v1/organizations/{org}/invoices";
    let says = Says {
        id: "issueInvoice",
        summary: "Issue the invoice of a closed month",
        more: "It covers the recharges that were booked in the month: what was paid, less what was paid back before the \
               invoice. Each recharge is invoiced once. What is paid back of it later gets a credit note by itself.",
    };
    routes.write(Verb::Post, path, says, issue);
    let says = Says {
        id: "listInvoices",
        summary: "List invoices and credit notes",
        more: "In the order of their numbers, which count up from 1 without gaps.",
    };
    routes.read(path, says, list);
    let says = Says { id: "getInvoice", summary: "See an invoice or credit note", more: "" };
    routes.read("/v1/organizations/{org}/invoices/{invoice}", says, show);
}

request! {
    /// Which invoice to issue.
    pub(super) struct NewInvoice {
        /// The month whose recharges it covers; it must be closed.
        month: Month,
    }
}

/// What was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DocumentKind {
    Invoice,
    CreditNote,
}

choices! {
    DocumentKind = "InvoiceKind", "What was issued." {
        Invoice = "invoice",
        CreditNote = "credit_note",
    }
}

answer! {
    /// An invoice, or a credit note that takes back a part of one.
    pub(super) struct Invoice {
        /// Its id.
        id: InvoiceId,
        /// Which of both it is.
        kind: DocumentKind,
        /// Its number among the organization's: from 1, without gaps.
        number: u64,
        /// The month whose recharges an invoice covers; the month in which a credit note was issued.
        month: Month,
        /// The invoice that a credit note belongs to.
        invoice: IfAny<InvoiceId>,
        /// What was paid, or paid back.
        lines: Vec<InvoiceLine>,
        /// All of it.
        total: Amount,
        /// The ledger's currency.
        currency: String,
        /// When it was issued.
        issued_at: Timestamp,
    }
}

answer! {
    /// A line of an invoice or credit note.
    pub(super) struct InvoiceLine {
        /// The recharge.
        recharge: RechargeId,
        /// The payment's own; of a credit note, that of the refund or reversal.
        reference: IfAny<Reference>,
        /// How much was paid, or paid back.
        amount: Amount,
    }
}

request! {
    /// A page of invoices and credit notes.
    pub(super) struct InvoicePage {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this item: the `next_page` of the page before.
        after: Option<InvoiceNumber>,
    }
}

/// The number of an invoice or credit note.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvoiceNumber(u64);

impl super::shape::Text for InvoiceNumber {
    const NAME: &'static str = "InvoiceNumber";

    fn schema() -> utoipa::openapi::schema::ObjectBuilder {
        super::kinds::string("The number of an invoice or credit note.")
            .pattern(Some("^(0|[1-9][0-9]{0,18})$"))
    }

    fn of(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "must be the number of an invoice or credit note".to_owned())
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.0.to_string().into()
    }
}

async fn issue(
    Write { path: org, body, author }: Write<OrgId, NewInvoice>,
) -> Result<Created<Invoice>, Problem> {
    let invoice = InvoiceId::from_bits(clock::new_id_bits());
    let command = OrganizationCommand::IssueInvoice { invoice, month: body.month };
    let done = author.decide(&org, command).await?;
    let issued = done.events.iter().find_map(|event| {
        if let Event::Money(MoneyEvent::InvoiceIssued { invoice, .. }) = event {
            Some(invoice.clone())
        } else {
            None
        }
    });
    let issued = issued.ok_or_else(|| Problem::internal("the entry issued no invoice"))?;
    let issued = Issued::to(&author.node, org, done.position.position).by_id(issued).await?;
    let issued = issued.ok_or_else(|| Problem::internal("the invoice is not in the view"))?;
    Ok(Created::new(done, issued.body))
}

async fn list(
    Reading { path: org, query, at }: Reading<OrgId, InvoicePage>,
) -> Result<Json<List<Positioned<Invoice>>>, Problem> {
    let read = at.organization(&org, Action::ManageMembers, |known| (known.documents, known.last_decision));
    let (last, through) = read.await?;
    let after = query.after.map_or(0, |after| after.0);
    let most = u64::try_from(Limit::most(query.limit)).unwrap_or(u64::MAX);
    let until = last.min(after.saturating_add(most));
    let items = Issued::to(&at.node, org, through).by_numbers(after.saturating_add(1), until).await?;
    let next_page = (until < last).then(|| until.to_string());
    Ok(Json(List { items, next_page }))
}

async fn show(
    Reading { path: (org, invoice), at, .. }: Reading<(OrgId, InvoiceId)>,
) -> Result<Json<Positioned<Invoice>>, Problem> {
    let through = at.organization(&org, Action::ManageMembers, |known| known.last_decision).await?;
    let issued = Issued::to(&at.node, org, through).by_id(invoice).await?;
    issued.map(Json).ok_or_else(|| Problem::not_found("there is no such invoice or credit note"))
}

/// What was issued to an organization, up to a position.
struct Issued {
    node: Node,
    organization: OrgId,
    through: Position,
}

impl Issued {
    fn to(node: &Node, organization: OrgId, through: Position) -> Self {
        Self { node: node.clone(), organization, through }
    }

    async fn by_id(self, invoice: InvoiceId) -> Result<Option<Positioned<Invoice>>, Problem> {
        Ok(self.found(vec![MovementKey::Document(invoice)]).await?.pop())
    }

    async fn by_numbers(self, from: u64, until: u64) -> Result<Vec<Positioned<Invoice>>, Problem> {
        self.found((from..=until).map(MovementKey::Number).collect()).await
    }

    async fn found(self, keys: Vec<MovementKey>) -> Result<Vec<Positioned<Invoice>>, Problem> {
        let owner = self.node.owner_of(&self.organization)?;
        // Rows reach the view a little after they are applied.
        owner.wait_viewed(self.through).await?;
        let (partition, view) = (owner.partition(), view_of(&self.node, &self.organization)?);
        let currency = self.node.ledger().currency.clone();
        let look = move || {
            let looking =
                Looking { view: &view, organization: &self.organization, currency: &currency, partition };
            keys.iter().filter_map(|key| looking.one(key).transpose()).collect::<Result<Vec<_>, _>>()
        };
        viewed(look).await
    }
}

/// Looking into the view, on a thread that may block.
struct Looking<'a> {
    view: &'a View,
    organization: &'a OrgId,
    currency: &'a str,
    partition: PartitionId,
}

impl Looking<'_> {
    fn one(&self, key: &MovementKey) -> Result<Option<Positioned<Invoice>>, ViewError> {
        let found = self.view.movements_by(self.organization, key)?.into_iter().next();
        found.map(|movement| self.shown(&movement)).transpose().map(Option::flatten)
    }

    fn shown(&self, movement: &Movement) -> Result<Option<Positioned<Invoice>>, ViewError> {
        let common = (movement.memo().unwrap_or_default(), self.currency.to_owned(), movement.booked_at);
        let (total, currency, issued_at) = common;
        let body = if let What::Invoice { invoice, number, of, recharges } = &movement.what {
            let lines = recharges.iter().map(|(recharge, amount)| self.paid(recharge, *amount));
            Invoice {
                id: invoice.clone(),
                kind: DocumentKind::Invoice,
                number: *number,
                month: *of,
                invoice: IfAny(None),
                lines: lines.collect::<Result<_, _>>()?,
                total,
                currency,
                issued_at,
            }
        } else if let What::CreditNote { note, number, invoice, movement: returned, amount } = &movement.what
        {
            let entry = self.view.movements_with(self.organization, movement)?;
            let returned = entry.iter().find(|other| other.id() == Some(returned.as_str()));
            Invoice {
                id: note.clone(),
                kind: DocumentKind::CreditNote,
                number: *number,
                month: movement.month,
                invoice: IfAny(Some(invoice.clone())),
                lines: returned.and_then(|returned| paid_back(returned, *amount)).into_iter().collect(),
                total,
                currency,
                issued_at,
            }
        } else {
            return Ok(None);
        };
        let position = LogPosition { partition: self.partition, position: movement.position };
        Ok(Some(Positioned { body, position: Some(position) }))
    }

    fn paid(&self, recharge: &RechargeId, amount: Amount) -> Result<InvoiceLine, ViewError> {
        let key = MovementKey::Recharge(recharge.clone());
        let booked = self.view.movements_by(self.organization, &key)?;
        let booked = booked.into_iter().find(|movement| movement.recharged().is_some());
        let reference = IfAny(booked.and_then(|movement| movement.reference));
        Ok(InvoiceLine { recharge: recharge.clone(), reference, amount })
    }
}

fn paid_back(returned: &Movement, amount: Amount) -> Option<InvoiceLine> {
    let recharge = returned.paid_back_of()?.clone();
    Some(InvoiceLine { recharge, reference: IfAny(returned.reference.clone()), amount })
}
