//! The log in one directory of one process, on fjall.
