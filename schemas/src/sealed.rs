//! Fields that stand in the log only encrypted (R9): readable while the organization's key exists, and never again
//! once it is erased.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Ciphertext of a name, an e-mail address or a secret. Digests and seals cover these bytes, so that erasing the key
/// breaks no proof.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key of the organization it was encrypted under, counted from 0.
    pub key: u32,
    /// Nonce and ciphertext with its tag (XChaCha20-Poly1305).
    pub ciphertext: Bytes,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.ciphertext.len())
    }
}

/// SHA-256 of a secret that was shown once (R3.6). Secrets have 256 random bits, so a plain hash reveals nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}
