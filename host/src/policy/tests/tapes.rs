//! A worker's tape, while it runs and after its end.

use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::policy::contract::{Connection, Decider};
use crate::policy::tape::{Clients, Message, Outbox, Piece, Shared, Tape, Terms};
use crate::policy::worker::WorkerPolicies;

fn worker() -> (WorkerPolicies, Receiver<Message>, Arc<Shared>) {
    let (queue, chunks) = sync_channel(1000);
    let shared = Arc::new(Shared::default());
    let terms = Terms { sample: NonZeroU32::MIN, clients: Clients::Plain };
    let tape = Tape::new(0, terms, Outbox::new(queue, Arc::clone(&shared)));
    (WorkerPolicies::recorded(7, tape), chunks, shared)
}

#[test]
fn what_load_answers_is_noted_as_long_as_there_is_a_tape() {
    let (mut worker, _chunks, shared) = worker();
    let policy = load("least-connections", 1);
    let endpoints = native::endpoints(&[1; 10]);
    let table = balanced(&policy, &endpoints, plan_balancer(&policy, &endpoints));
    worker.install(Arc::clone(&policy), 0);
    worker.adopt(&table, &[0], 0);
    shared.stop();
    worker.mend(1);
    for n in 0..100 {
        let connection = Connection { now_ms: n, ..native::connection(0, n) };
        worker.pick(policy.version().id, &connection, 0).unwrap();
    }
    assert_eq!(worker.noted(), 0, "nobody takes them, and they would grow");
}

#[test]
fn every_port_that_is_another_than_before_is_told() {
    let (mut worker, chunks, _) = worker();
    let policy = load("random", 1);
    let endpoints = native::endpoints(&[1, 1]);
    let port = |id: u32, generation: u64| {
        let table = balanced(&policy, &endpoints, plan_balancer(&policy, &endpoints));
        let port = Port::clone(table.port(0).unwrap());
        Arc::new(Port { id, generation, record: Arc::new(ServicePort { id, ..ServicePort::clone(&port.record) }), ..port })
    };
    let table = |ports: Vec<Option<Arc<Port>>>| {
        let mut table = Table::default();
        ports.into_iter().for_each(|port| table.ports.push_back(port));
        Arc::new(table)
    };
    let told = |worker: &mut WorkerPolicies| {
        worker.mend(1);
        let pieces = chunks.try_iter().flat_map(|message| match message {
            Message::Chunk(chunk) => chunk.pieces,
            Message::Close => Vec::new(),
        });
        let services = pieces.filter_map(|piece| match piece {
            Piece::Service { service, port, .. } => Some((service, port.map(|port| port.generation))),
            _ => None,
        });
        services.collect::<Vec<_>>()
    };
    worker.install(Arc::clone(&policy), 0);
    let (zero, one, two) = (port(0, 1), port(1, 1), port(2, 1));
    worker.adopt(&table(vec![Some(Arc::clone(&zero)), Some(one), Some(two)]), &[0, 1, 2], 0);
    assert_eq!(told(&mut worker), [(0, Some(1)), (1, Some(1)), (2, Some(1))]);
    // One is planned anew; in the same table the next is gone, and another's masked endpoints are back.
    worker.adopt(&table(vec![Some(zero), None, Some(port(2, 2))]), &[1], 0);
    assert_eq!(told(&mut worker), [(1, None), (2, Some(2))]);
}
