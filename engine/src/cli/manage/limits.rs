//! Limits in force as people read them: one row for each (R1.2, R5).

use serde_json::{Value, json};

/// Of each limit.
pub(super) const COLUMNS: &[&str] = &["limit", "in_force", "used", "override"];

/// Everybody's rate limits may be lowered for a time (R5.5).
pub(super) fn scaled(answer: &Value) -> Option<String> {
    let of = |member: &str| answer.pointer(&format!("/scale/{member}")).and_then(Value::as_str);
    let (factor, until, reason) = (of("factor")?, of("until")?, of("reason")?);
    Some(format!("rate limits are scaled by {factor} until {until}: {reason}"))
}

/// Limits of requests and tokens, which the tier gives, and what counts towards each.
const RATES: [(&str, &str); 4] =
    [("concurrency", "concurrency"), ("rpm", "requests"), ("tpm", "tokens"), ("tpd", "tokens_today")];
/// Limits of quantities, which the type of organization gives.
const QUANTITIES: [&str; 2] = ["projects", "api_keys"];

/// The tier and one row for each limit.
pub(super) fn rows(answer: Value) -> Value {
    let at = |path: &str| answer.pointer(path).cloned().unwrap_or_default();
    let in_force = |name: &str| match answer.get("limits") {
        // A row of the tier table without a limit, and no row at all, are not the same.
        Some(Value::Object(rates)) if rates.get(name).is_some_and(Value::is_null) => "unlimited".into(),
        Some(_) | None => at(&format!("/limits/{name}")),
    };
    let tier = json!({ "limit": "tier", "in_force": at("/tier") });
    let rates = RATES.iter().map(|(name, counts)| {
        json!({
            "limit": name,
            "in_force": in_force(name),
            "used": at(&format!("/used/{counts}")),
            "override": at(&format!("/overrides/{name}")),
        })
    });
    let quantities = QUANTITIES.iter().map(|name| {
        json!({
            "limit": name,
            "in_force": at(&format!("/quantities/{name}/limit")),
            "used": at(&format!("/quantities/{name}/used")),
            "override": at(&format!("/overrides/{name}")),
        })
    });
    json!({ "items": std::iter::once(tier).chain(rates).chain(quantities).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_none_is_not_one_that_is_unknown() {
        let shown = rows(json!({
            "tier": "Tier1",
            "limits": { "concurrency": 50, "rpm": 200, "tpm": 2_000_000, "tpd": null },
            "used": { "concurrency": 1, "requests": 12, "tokens": 900, "tokens_today": 4_000 },
            "quantities": { "projects": { "limit": 20, "used": 3 }, "api_keys": { "limit": 50, "used": 0 } },
            "overrides": { "rpm": 200 },
        }));
        let row = |place: usize| shown["items"][place].clone();
        assert_eq!(row(2), json!({ "limit": "rpm", "in_force": 200, "used": 12, "override": 200 }));
        let today = json!({ "limit": "tpd", "in_force": "unlimited", "used": 4_000, "override": null });
        assert_eq!(row(4), today);
        assert_eq!(row(5), json!({ "limit": "projects", "in_force": 20, "used": 3, "override": null }));
        let poor = rows(json!({ "tier": null, "limits": null, "quantities": {}, "overrides": {} }));
        assert_eq!(poor["items"][4]["in_force"], Value::Null);
    }
}
