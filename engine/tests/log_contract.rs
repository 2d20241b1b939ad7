//! The embedded log keeps the contract of every log, and what it promises beyond it.

mod contract;
