//! Personal data: encrypted under a key of its organization that is kept outside of the log, so that erasing the key
//! makes it unreadable everywhere, for ever, without touching the log (R9).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
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
///
/// ```text
/// <org>        key 0 of an organization
/// <org>.<n>    its key n, made after the n-th erasure
/// ```
#[derive(Clone)]
pub struct Contacts {
    keys: Arc<dyn SideStore>,
    ledger_secret: [u8; KEY_BYTES],
    /// Below which number an organization's keys are erased, as far as this process knows. Never goes back.
    erased: Arc<watch::Sender<BTreeMap<OrgId, u32>>>,
}

impl fmt::Debug for Contacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contacts").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Contacts {
    /// Uses the keys in `keys`, and makes the ledger's secret on first use.
    pub async fn open(keys: Arc<dyn SideStore>) -> Result<Self, ContactError> {
        let fresh = Bytes::copy_from_slice(&clock::random_bytes::<KEY_BYTES>());
        let stored = keys.put_new(LEDGER_KEY, fresh).await?;
        Ok(Self { ledger_secret: key_of(LEDGER_KEY, &stored)?, keys, erased: Arc::default() })
    }

    /// Encrypts one field of an organization under its key of this number, making that key on first use. The number is
    /// how often the organization's personal data was erased so far. A key that is known to be erased is not made again:
    /// what is sealed under its number then, nobody can read, and no decision takes it.
    pub async fn seal(&self, organization: &OrgId, key: u32, text: &str) -> Result<Sealed, ContactError> {
        let name = key_name(organization, key);
        let stored = self.sealing_key(organization, key, &name).await?;
        let nonce: [u8; NONCE_BYTES] = clock::random_bytes();
        let payload = Payload { msg: text.as_bytes(), aad: name.as_bytes() };
        let encrypted = cipher(&key_of(&name, &stored)?)
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| ContactError::Encrypt)?;
        Ok(Sealed { key, ciphertext: Bytes::from([nonce.as_slice(), &encrypted].concat()) })
    }

    async fn sealing_key(&self, organization: &OrgId, key: u32, name: &str) -> Result<Bytes, ContactError> {
        let fresh = Bytes::copy_from_slice(&clock::random_bytes::<KEY_BYTES>());
        if self.is_erased(organization, key) {
            return Ok(fresh);
        }
        let (this, organization, name) = (self.clone(), organization.clone(), name.to_owned());
        // A task, because whoever wants to seal may give up at any point.
        let put = tokio::spawn(async move {
            let stored = this.keys.put_new(&name, fresh).await?;
            // An erasure is noted before keys go: either it is seen here, or it finds this key.
            if this.is_erased(&organization, key) {
                this.keys.erase(&name).await?;
            }
            Ok(stored)
        });
        put.await.unwrap_or_else(|error| Err(SideError(error.to_string()).into()))
    }

    fn is_erased(&self, organization: &OrgId, key: u32) -> bool {
        self.erased.borrow().get(organization).is_some_and(|below| key < *below)
    }

    /// Notes that the log says of an organization's keys with a number below this one that they are erased.
    pub(crate) fn note_erased(&self, organization: &OrgId, below: u32) {
        self.erased.send_if_modified(|erased| {
            let known = erased.entry(organization.clone()).or_default();
            let more = below > *known;
            *known = below.max(*known);
            more
        });
    }

    /// Makes unreadable for ever what was sealed under the organization's keys with a number below this one (R9.2).
    /// May be repeated: after an error, or a crash halfway, it goes on with what is left.
    pub async fn erase(&self, organization: &OrgId, below: u32) -> Result<(), ContactError> {
        self.note_erased(organization, below);
        for key in 0..below {
            self.keys.erase(&key_name(organization, key)).await?;
        }
        Ok(())
    }

    /// What opens the fields of one organization that were sealed under any of these keys; repeated ones are fetched
    /// once. Not to be kept: it goes on opening what is erased meanwhile.
    pub async fn opener(
        &self,
        organization: &OrgId,
        keys: impl IntoIterator<Item = u32, IntoIter: Send> + Send,
    ) -> Result<Opener, ContactError> {
        let mut found = BTreeMap::new();
        for key in keys {
            if let Entry::Vacant(place) = found.entry(key) {
                let name = key_name(organization, key);
                let stored = self.keys.get(&name).await?;
                let cipher = stored.map(|stored| Ok::<_, ContactError>(cipher(&key_of(&name, &stored)?)));
                place.insert(cipher.transpose()?);
            }
        }
        Ok(Opener { organization: organization.clone(), keys: found })
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

/// Opens fields of one organization without asking the store again.
pub struct Opener {
    organization: OrgId,
    /// By number; `None`: erased, or never made.
    keys: BTreeMap<u32, Option<XChaCha20Poly1305>>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("organization", &self.organization).finish_non_exhaustive()
    }
}

impl Opener {
    /// The text of a field; `None` when its key is gone or was not asked for, and for bytes that were not sealed for
    /// this organization under it.
    pub fn open(&self, sealed: &Sealed) -> Option<String> {
        let cipher = self.keys.get(&sealed.key)?.as_ref()?;
        let (nonce, encrypted) = sealed.ciphertext.split_first_chunk::<NONCE_BYTES>()?;
        let name = key_name(&self.organization, sealed.key);
        let payload = Payload { msg: encrypted, aad: name.as_bytes() };
        String::from_utf8(cipher.decrypt(&XNonce::from(*nonce), payload).ok()?).ok()
    }
}

/// Under which name a key is stored. What it sealed is bound to the same name.
fn key_name(organization: &OrgId, key: u32) -> String {
    match key {
        0 => organization.to_string(),
        1.. => format!("{organization}.{key}"),
    }
}

fn cipher(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

fn key_of(name: &str, stored: &[u8]) -> Result<[u8; KEY_BYTES], ContactError> {
    stored.try_into().map_err(|_| ContactError::Key(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side::files::Files;

    fn org(number: u128) -> OrgId {
        OrgId::from_bits(number)
    }

    async fn contacts(dir: &std::path::Path) -> Contacts {
        Contacts::open(Arc::new(Files::open(dir).unwrap())).await.unwrap()
    }

    async fn open(contacts: &Contacts, organization: &OrgId, sealed: &Sealed) -> Option<String> {
        contacts.opener(organization, [sealed.key]).await.unwrap().open(sealed)
    }

    #[tokio::test]
    async fn r9_2_what_was_erased_stays_unreadable_and_the_rest_readable() {
        let dir = tempfile::tempdir().unwrap();
        let contacts = contacts(dir.path()).await;
        let old = contacts.seal(&org(1), 0, "Ada").await.unwrap();
        let others = contacts.seal(&org(2), 0, "Ben").await.unwrap();
        contacts.erase(&org(1), 1).await.unwrap();
        let new = contacts.seal(&org(1), 1, "Cleo").await.unwrap();
        // Erasing again, as after a crash, takes nothing that was sealed since.
        contacts.erase(&org(1), 1).await.unwrap();
        // Somebody who is late makes no key of the erased number again.
        let late = contacts.seal(&org(1), 0, "Dan").await.unwrap();

        let opener = contacts.opener(&org(1), [0, 1, 1, 2]).await.unwrap();
        assert_eq!(opener.open(&old), None);
        assert_eq!(opener.open(&new).as_deref(), Some("Cleo"));
        assert_eq!(opener.open(&late), None);
        assert!(!dir.path().join(org(1).as_str()).exists());
        assert_eq!(open(&contacts, &org(2), &others).await.as_deref(), Some("Ben"));

        contacts.erase(&org(1), 2).await.unwrap();
        let opener = contacts.opener(&org(1), [0, 1]).await.unwrap();
        assert_eq!([&old, &new, &late].map(|sealed| opener.open(sealed)), [None, None, None]);
        assert_eq!(open(&contacts, &org(2), &others).await.as_deref(), Some("Ben"));
    }

    #[tokio::test]
    async fn r9_2_an_erasure_that_stopped_halfway_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let contacts = contacts(dir.path()).await;
        let mut sealed = Vec::new();
        for key in 0..4 {
            sealed.push(contacts.seal(&org(1), key, "Ada").await.unwrap());
        }
        contacts.erase(&org(1), 1).await.unwrap();
        // Half erased: its first byte is overwritten, the rest is not.
        let half = dir.path().join(format!("{}.1", org(1)));
        let mut bytes = std::fs::read(&half).unwrap();
        bytes[0] = 0;
        std::fs::write(&half, bytes).unwrap();
        contacts.erase(&org(1), 3).await.unwrap();
        let opener = contacts.opener(&org(1), 0..4).await.unwrap();
        let opened: Vec<_> = sealed.iter().map(|sealed| opener.open(sealed)).collect();
        assert_eq!(opened, [None, None, None, Some("Ada".to_owned())]);
        assert!(!half.exists());
    }

    #[tokio::test]
    async fn a_field_is_bound_to_its_organization_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let contacts = contacts(dir.path()).await;
        let sealed = contacts.seal(&org(1), 0, "Ada").await.unwrap();
        // The same key under other names, as if somebody had moved files.
        std::fs::copy(dir.path().join(org(1).as_str()), dir.path().join(org(2).as_str())).unwrap();
        std::fs::copy(dir.path().join(org(1).as_str()), dir.path().join(format!("{}.1", org(1)))).unwrap();
        assert_eq!(open(&contacts, &org(1), &sealed).await.as_deref(), Some("Ada"));
        assert_eq!(open(&contacts, &org(2), &sealed).await, None);
        let moved = Sealed { key: 1, ..sealed.clone() };
        assert_eq!(open(&contacts, &org(1), &moved).await, None);
        let cut = Sealed { key: 0, ciphertext: sealed.ciphertext.slice(..9) };
        assert_eq!(open(&contacts, &org(1), &cut).await, None);
        let other = contacts.opener(&org(1), [7]).await.unwrap();
        assert_eq!(other.open(&sealed), None, "its key was not asked for");
    }
}
