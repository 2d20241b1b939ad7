//! Admission over HTTP: may this request pass (R5), and what became of it.

pub(crate) mod limits;
pub(crate) mod reply;
pub(crate) mod sent;
