//! `tcpSocket`: a connection is success.

use std::net::SocketAddr;

use super::{connect, named};
use crate::probe::schedule::Answer;

pub(super) async fn ask(own: SocketAddr, host: Option<&str>) -> Answer {
    let what = format!("connecting to {}", named(host, own));
    match connect(host, own).await {
        Ok(_) => Answer::success(format!("{what}: accepted")),
        Err(error) => Answer::error(&what, &error),
    }
}
