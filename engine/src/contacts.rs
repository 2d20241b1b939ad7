//! Personal data: encrypted under a key of its organization that is kept outside of the log, so that erasing the key
//! makes it unreadable everywhere, for ever, without touching the log (R9).

use std::sync::Arc;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::sealed::Sealed;

use crate::clock;
use crate::side::{SideError, SideStore};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Where the ledger's own secret is kept; organizations' keys stand under their ids.
const LEDGER_KEY: &str = "ledger-secret";

/// Why personal data cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// The store of keys failed.
    #[error(transparent)]
    Side(#[from] SideError),
    /// What the store holds is not a key.
    #[error("the key of {0} is not one")]
    Key(String),
    /// The cipher refused.
    #[error("a field cannot be encrypted")]
    Encrypt,
}

/// Seals and opens personal data. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Contacts {
    keys: Arc<dyn SideStore>,
    ledger_secret: [u8; KEY_BYTES],
}

impl Contacts {
    /// Uses the keys in `keys`, and makes the ledger's secret on first use.
    pub async fn open(keys: Arc<dyn SideStore>) -> Result<Self, ContactError> {
        let fresh = Bytes::copy_from_slice(&clock::random_bytes::<KEY_BYTES>());
        let stored = keys.put_new(LEDGER_KEY, fresh).await?;
        Ok(Self { ledger_secret: key_of(LEDGER_KEY, &stored)?, keys })
    }

    /// Encrypts one field of an organization, making its key on first use.
    pub async fn seal(&self, organization: &OrgId, text: &str) -> Result<Sealed, ContactError> {
        let fresh = Bytes::copy_from_slice(&clock::random_bytes::<KEY_BYTES>());
        let stored = self.keys.put_new(organization.as_str(), fresh).await?;
        let key = key_of(organization.as_str(), &stored)?;
        let nonce: [u8; NONCE_BYTES] = clock::random_bytes();
        let payload = Payload { msg: text.as_bytes(), aad: organization.as_str().as_bytes() };
        let encrypted = XChaCha20Poly1305::new(&key.into())
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| ContactError::Encrypt)?;
        Ok(Sealed { key: 0, ciphertext: Bytes::from([nonce.as_slice(), &encrypted].concat()) })
    }

    /// Decrypts one field; `None` when its key was erased, so that nobody can read it any more.
    pub async fn open_field(
        &self,
        organization: &OrgId,
        sealed: &Sealed,
    ) -> Result<Option<String>, ContactError> {
        let Some(stored) = self.keys.get(organization.as_str()).await? else { return Ok(None) };
        let key = key_of(organization.as_str(), &stored)?;
        let Some((nonce, encrypted)) = sealed.ciphertext.split_first_chunk::<NONCE_BYTES>() else {
            return Ok(None);
        };
        let payload = Payload { msg: encrypted, aad: organization.as_str().as_bytes() };
        let text = XChaCha20Poly1305::new(&key.into()).decrypt(&XNonce::from(*nonce), payload).ok();
        Ok(text.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// What makes a repetition of a request recognizable, without anybody being able to guess the request from it:
    /// keyed with the ledger's secret. `scope` is the caller, `key` its `Idempotency-Key`, `request` all of the rest.
    pub fn idempotency(&self, scope: &str, key: &str, request: &[&[u8]]) -> Idempotency {
        Idempotency {
            key: self.keyed(b"idempotency key", &[scope.as_bytes(), key.as_bytes()]),
            content: self.keyed(b"idempotency content", request),
        }
    }

    /// SHA-256 under the ledger's secret, cut to 128 bits. Every part is told apart by its length, and the secret has
    /// a block of its own, so that extending a hash helps nobody: only half of it is ever shown.
    fn keyed(&self, purpose: &[u8], parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = Sha256::new();
        for part in [self.ledger_secret.as_slice(), purpose].into_iter().chain(parts.iter().copied()) {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        let whole: [u8; 32] = hasher.finalize().into();
        let mut half = [0; 16];
        half.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        half
    }
}

fn key_of(name: &str, stored: &[u8]) -> Result<[u8; KEY_BYTES], ContactError> {
    stored.try_into().map_err(|_| ContactError::Key(name.to_owned()))
}
