//! API keys by what their secrets hash to.

use std::collections::HashMap;

use tollbook_schemas::id::KeyId;
use tollbook_schemas::sealed::SecretHash;

use crate::organization::Organization;

/// Where the key of each secret is: the organization's slot, and the key's id.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(HashMap<SecretHash, (usize, KeyId)>);

impl Secrets {
    pub(super) fn find(&self, secret: &SecretHash) -> Option<(usize, &KeyId)> {
        self.0.get(secret).map(|(slot, key)| (*slot, key))
    }

    /// Notes a key of the organization in `slot`.
    ///
    /// Secrets that are moved in may stand twice. Which of them counts must not depend on the order in which they are
    /// noted, or a restart could change it: the one that was made first does, and then the one with the lower ids.
    pub(super) fn note<'a>(
        &mut self,
        slot: usize,
        key: &KeyId,
        at: impl Fn(usize) -> Option<&'a Organization>,
    ) {
        let age = |slot: usize, key: &KeyId| {
            let organization = at(slot)?;
            let (id, known) = organization.keys.get_key_value(key)?;
            Some((known.secret, (known.created_at, organization.id.clone(), id.clone())))
        };
        let Some((secret, made)) = age(slot, key) else { return };
        let before = self.0.get(&secret).and_then(|(slot, key)| age(*slot, key));
        if before.is_none_or(|(_, before)| made < before) {
            self.0.insert(secret, (slot, made.2));
        }
    }

    /// Notes all keys of the organization in `slot`.
    pub(super) fn note_all<'a>(&mut self, slot: usize, at: impl Fn(usize) -> Option<&'a Organization>) {
        let keys = at(slot).map(|organization| &organization.keys);
        for key in keys.into_iter().flat_map(|keys| keys.keys()) {
            self.note(slot, key, &at);
        }
    }
}
