//! An independent model.
