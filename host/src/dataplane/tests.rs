//! Real sockets on 127/8, real workers, and policies that do as they are told.

mod balance;
mod bytes;
mod changes;
mod ending;
mod rig;
