//! End to end: the real binary, with real and in-process peers, as users meet it (each test says what it guards).

mod admin;
mod allocation;
mod cluster;
mod commands;
mod databases;
mod draining;
mod failures;
mod lifecycle;
mod load;
mod mistakes;
mod nodes;
mod pods;
mod readiness;
mod service_types;
mod shadow;
mod site;
mod sources;
mod streams;
mod swaps;
mod transparent;
mod udp;
