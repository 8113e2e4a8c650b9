//! UDP.

mod flows;
