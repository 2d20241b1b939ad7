//! The shipped nginx configuration in a real nginx, between customers, Tollbook and an LLM server.

mod endings;
mod gateway;
mod passing;
mod python;
mod refusals;
mod stub;
mod together;
mod trust;
