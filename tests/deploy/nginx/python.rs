//! The official client.
