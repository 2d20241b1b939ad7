//! Secrets of keys and tokens.

use crate::clock;

/// Characters of a secret: what a shell, a URL and an eye take alike.
const SECRET_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 48 characters of 62 are more than 256 bits.
const SECRET_CHARACTERS: usize = 48;

/// A new secret, beginning with `prefix`.
pub fn new_secret(prefix: &str) -> String {
    let mut secret = String::from(prefix);
    while secret.len() < prefix.len().saturating_add(SECRET_CHARACTERS) {
        let bytes: [u8; 64] = clock::random_bytes();
        // Bytes of 248 and above would make the first characters likelier than the others.
        let characters = bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| {
            SECRET_ALPHABET
                .get(usize::from(*byte).checked_rem(SECRET_ALPHABET.len())?)
                .map(|c| char::from(*c))
        });
        let missing = prefix.len().saturating_add(SECRET_CHARACTERS).saturating_sub(secret.len());
        secret.extend(characters.take(missing));
    }
    secret
}

/// What still shows of a secret (R3.6).
pub(super) fn hint(secret: &str) -> String {
    let tail: Vec<char> = secret.chars().rev().take(4).collect();
    tail.into_iter().rev().collect()
}
