//! What the workbench measures, defined once. Every command that names one of these metrics means what is written here.
//!
//! Loads are numbers for each endpoint, by its weight: connections divided by the weight, or picks divided by the picks that its weight
//! promised. So an even load is the same number everywhere, whatever the weights.

mod balance;
mod churn;
mod estimate;
mod gamma;
mod over_time;

pub use balance::{Balance, chi_square_p, gap, weight_error};
pub use churn::{Disruption, Visit};
pub use estimate::{MIN_SEEDS, differs, estimate, quantile};
pub use over_time::{BURST_MS, Burst, FIRST_PICKS, Herd, Oscillation, Schedule};

#[cfg(test)]
mod tests;
