//! Signatures of webhooks (Standard Webhooks 1.0.0).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock;

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A new secret: `whsec_` and base64 of 32 random bytes.
pub(crate) fn new_secret() -> String {
    format!("{PREFIX}{}", STANDARD.encode(clock::random_bytes::<SECRET_BYTES>()))
}

/// The value of `webhook-signature`: one signature per secret, in their order. `None`: one of them is no secret.
/// `timestamp` is of this attempt, in seconds; `body` is what is sent, byte for byte.
pub(crate) fn signatures(secrets: &[&str], id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let each = secrets.iter().map(|secret| signature(secret, id, timestamp, body));
    each.collect::<Option<Vec<_>>>().map(|all| all.join(" "))
}

fn signature(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn r7_3_signatures_are_those_of_standard_webhooks() {
        let signed = signatures(
            &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn r7_3_both_secrets_sign_while_one_is_replaced() {
        let (new, old) = (new_secret(), new_secret());
        assert_ne!(new, old);
        assert_eq!(STANDARD.decode(new.strip_prefix("whsec_").unwrap()).unwrap().len(), 32);
        let both = signatures(&[&new, &old], "alert_1", 1, b"{}").unwrap();
        let each = [&new, &old].map(|secret| signatures(&[secret], "alert_1", 1, b"{}").unwrap());
        assert_eq!(both, each.join(" "));
        assert_eq!(signatures(&["MfKQ"], "alert_1", 1, b"{}"), None);
        assert_eq!(signatures(&["whsec_?"], "alert_1", 1, b"{}"), None);
    }
}
