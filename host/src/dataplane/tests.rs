//! Real sockets on 127/8 and ::1, real workers, and policies that do as they are told.

mod balance;
mod bytes;
mod changes;
mod ending;
mod rig;
mod udp;
mod udp_changes;
mod udp_refusals;
