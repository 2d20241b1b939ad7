//! The pure core against an independent model, over seeded random walks; and properties of the fold: batches, order
//! and repetition do not matter, and no bytes break it.

mod bytes;
mod split;
mod walk;
