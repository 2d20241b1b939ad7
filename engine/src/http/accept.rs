//! What a reader would rather have: JSON, or CSV where there is any.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Whether `Accept` names CSV, and no JSON before it that is wanted as much.
pub(super) fn prefers_csv(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    let find = |wanted: &str| {
        let weighed =
            ranges.iter().enumerate().filter_map(|(place, range)| Some((place, weight(range, wanted)?)));
        weighed.max_by_key(|(place, weight)| (*weight, std::cmp::Reverse(*place)))
    };
    match (find("text/csv"), find("application/json")) {
        (None | Some((_, 0)), _) => false,
        (Some(_), None) => true,
        (Some((csv_at, csv)), Some((json_at, json))) => csv > json || csv == json && csv_at < json_at,
    }
}

/// In thousandths, how much a range wants exactly this media type.
fn weight(range: &str, wanted: &str) -> Option<u16> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let Some(quality) = quality else { return Some(1_000) };
    let (whole, rest) = quality.split_once('.').unwrap_or((quality, ""));
    let digits = format!("{whole}{rest:0<3}");
    Some(digits.get(..4).and_then(|digits| digits.parse().ok()).unwrap_or(0).min(1_000))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn csv_is_sent_to_those_who_name_it() {
        for (accept, csv) in [
            ("", false),
            ("*/*", false),
            ("text/*", false),
            ("application/json", false),
            ("text/csv", true),
            ("Text/CSV; header=present", true),
            ("text/csv, application/json", true),
            ("application/json, text/csv", false),
            ("application/json;q=0.5, text/csv;q=0.51", true),
            ("application/json, text/csv;q=0.9", false),
            ("text/csv;q=0, */*", false),
            ("text/html, text/csv;q=0.001, */*;q=0.1", true),
            ("text/csv;q=nonsense", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            assert_eq!(prefers_csv(&headers), csv, "{accept}");
        }
    }
}
