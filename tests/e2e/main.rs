//! End to end: the real binary, with real and in-process peers, as users meet it (each test says what it guards).

mod admin;
mod allocation;
mod cluster;
mod commands;
mod databases;
mod draining;
mod failures;
mod first_balancer;
mod lifecycle;
mod load;
mod mistakes;
mod nodes;
mod oci;
mod pods;
mod projects;
mod readiness;
mod recording;
mod reports;
mod service_types;
mod site;
mod sources;
mod streams;
mod swaps;
mod transparent;
mod udp;
mod workbench;
