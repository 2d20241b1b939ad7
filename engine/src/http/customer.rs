//! What customers ask with their own API key: their balance, exactly as the platform shows it.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::routing::get;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tollbook_projections::purse::Funds;
use tollbook_projections::state::State as Folded;
use tollbook_schemas::amount::{AMOUNT_PLACES, Amount};
use tollbook_schemas::sealed::SecretHash;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::Api;
use super::answer::{Answer, Json};
use super::auth::hash;
use super::document::{Routes, Says, Verb, api_key};
use super::fields::header;
use super::reading::settled;
use super::refusal::{Refused, refused_as_llm_apis_do};
use super::shape::{Described, Parts, Shape, ToJson, answer};
use crate::admission::Code;

/// Decimal places that customers are shown.
const PLACES: u32 = 5;
/// Longest secret that can be one.
const SECRET_MAX: usize = 512;
/// What is refused, by status.
const REFUSALS: &[(u16, &str)] = &[
    (
        401,
        "No key, or none that works: `api_key_missing`, `api_key_malformed`, `api_key_invalid`, `api_key_revoked`.",
    ),
    (503, "Not now: `not_ready`. The same request may be sent again."),
];

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Customers", "What customers ask with their own API key.");
    let says = Says {
        id: "getMyBalance",
        summary: "See the balance of the organization that an API key belongs to",
        more: "The customer's own API key is the bearer token. Amounts are rounded to 5 decimal places, down; the books \
               are exact. While cash is below zero, what is available is what vouchers hold.",
    };
    let describe = |_: OperationBuilder, parts: &mut Parts| {
        let operation = says.begin().security(api_key());
        let operation = operation.response("200", Json::<CustomerBalance>::describe(parts).build());
        refused_as_llm_apis_do(operation, REFUSALS, &[], parts)
    };
    routes.other(Verb::Get, "/v1/users/me/balance", describe, get(balance));
}

answer! {
    /// A customer's balance, in the platform's own shape.
    pub(super) struct CustomerBalance {
        /// 0: all went well.
        code: u32,
        /// The balance.
        data: CustomerFunds,
        /// The same as `code`, in hexadecimal.
        scode: String,
        /// Whether all went well.
        status: bool,
    }
}

answer! {
    /// What a customer has.
    pub(super) struct CustomerFunds {
        /// What may be used: vouchers, and cash unless it is below zero.
        available_balance: Rounded,
        /// What is left of vouchers.
        voucher_balance: Rounded,
        /// Cash; below zero when money is owed.
        cash_balance: Rounded,
    }
}

/// An amount as customers see it: a JSON number with at most 5 decimal places, rounded down. Its digits are written from
/// the exact amount; no binary fraction is ever made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rounded(Amount);

impl Rounded {
    /// The highest shown amount that is not above `amount`, so that nobody is shown money that is not there.
    fn down(amount: Amount) -> Self {
        let step = 10_i128.pow(AMOUNT_PLACES.saturating_sub(PLACES));
        let over = amount.units().checked_rem_euclid(step).unwrap_or_default();
        Self(Amount::from_units(amount.units().saturating_sub(over)).unwrap_or(amount))
    }
}

impl Shape for Rounded {
    fn describe(_: &mut Parts) -> Described {
        ObjectBuilder::new().schema_type(Type::Number).into()
    }
}

impl ToJson for Rounded {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string()).map_err(serde::ser::Error::custom)?.serialize(to)
    }
}

impl CustomerBalance {
    fn of(funds: Funds) -> Self {
        let (vouchers, cash) = (Rounded::down(funds.vouchers), Rounded::down(funds.cash));
        // Of what is shown, so that it adds up as it is shown (R4.1).
        let available = vouchers.0.checked_add(cash.0.max(Amount::ZERO)).unwrap_or(Amount::MAX);
        Self {
            code: 0,
            data: CustomerFunds {
                available_balance: Rounded(available),
                voucher_balance: vouchers,
                cash_balance: cash,
            },
            scode: "0x0".to_owned(),
            status: true,
        }
    }
}

/// What a customer's key leads to in one partition.
enum Found {
    Works,
    Revoked,
}

async fn balance(State(api): State<Api>, headers: HeaderMap) -> Result<Json<CustomerBalance>, Refused> {
    let secret = secret(&headers)?;
    let (secret, may_be_key) = (hash(secret), secret.starts_with("sk-"));
    for owner in api.node.owners() {
        let found = owner.read(move |state| {
            let (organization, _, key) = state.key_by_secret(&secret)?;
            let project = organization.projects.get(&key.project);
            let works = key.is_active() && project.is_some_and(|project| project.is_active());
            Some(if works { Found::Works } else { Found::Revoked })
        });
        match found.await? {
            None => {}
            Some(Found::Revoked) => return Err(Code::KeyRevoked.into()),
            Some(Found::Works) => {
                // What this node answered for is in the balance.
                settled(&api.node, owner).await.map_err(|behind| Refused::not_ready(behind.detail()))?;
                let funds = owner.read(move |state| funds_of(state, &secret)).await?;
                return funds
                    .map(|funds| Json(CustomerBalance::of(funds)))
                    .ok_or_else(|| Code::KeyRevoked.into());
            }
        }
    }
    // Keys that were moved in need not look like ours, but what does not and is none was never meant to be one.
    Err(if may_be_key { Code::KeyInvalid } else { Code::KeyMalformed }.into())
}

fn funds_of(state: &Folded, secret: &SecretHash) -> Option<Funds> {
    state.key_by_secret(secret).map(|(organization, _, _)| organization.purse.funds())
}

/// The secret that a customer sends.
pub(super) fn secret(headers: &HeaderMap) -> Result<&str, Code> {
    let value = header(headers, AUTHORIZATION.as_str()).map_err(|_| Code::KeyMalformed)?;
    let text = value.ok_or(Code::KeyMissing)?.to_str().map_err(|_| Code::KeyMalformed)?;
    let (scheme, secret) = text.trim().split_once(' ').unwrap_or((text, ""));
    let secret = secret.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Code::KeyMalformed);
    }
    if secret.is_empty() {
        return Err(Code::KeyMissing);
    }
    let plain = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && secret.len() <= SECRET_MAX { Ok(secret) } else { Err(Code::KeyMalformed) }
}

#[cfg(test)]
mod tests {
    use super::super::answer::json_text;
    use super::*;

    fn shown(cash: &str, vouchers: &str) -> String {
        let funds = Funds { cash: cash.parse().unwrap(), vouchers: vouchers.parse().unwrap() };
        json_text(&CustomerBalance::of(funds))
    }

    #[test]
    fn r4_1_the_balance_is_shown_as_the_platform_shows_it() {
        let data = |available: &str, vouchers: &str, cash: &str| {
            format!(
                r#"{{"code":0,"data":{{"available_balance":{available},"voucher_balance":{vouchers},"cash_balance":{cash}}},"scode":"0x0","status":true}}"#
            )
        };
        assert_eq!(shown("3.00001", "46.58893"), data("49.58894", "46.58893", "3.00001"));
        // Down, and what is shown adds up.
        assert_eq!(shown("3.000019999999", "46.588939999999"), data("49.58894", "46.58893", "3.00001"));
        assert_eq!(shown("0", "0"), data("0", "0", "0"));
        assert_eq!(shown("0.000009", "0.00001"), data("0.00001", "0.00001", "0"));
        // What is owed is not shown smaller than it is, and takes nothing from vouchers.
        assert_eq!(shown("-0.000001", "5"), data("5", "5", "-0.00001"));
        assert_eq!(shown("-2.5", "0"), data("0", "0", "-2.5"));
        // More digits than a double has.
        assert_eq!(
            shown("10000000000000000.123456", "0").split(',').nth(1).unwrap(),
            r#""data":{"available_balance":10000000000000000.12345"#
        );
    }
}
