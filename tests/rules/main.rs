//! The rules as tables, a test per rule of `docs/rules.md` that exists so far, named by its number. Straight on the pure
//! core: no I/O, virtual time.

mod log;
mod r1;
mod r4;
mod r5;
mod r6;
mod r8;
mod zones;
