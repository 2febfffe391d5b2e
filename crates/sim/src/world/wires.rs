//! Messages and connections.

use bytes::{Bytes, BytesMut};
use quorate_node::{Event, Message};
use quorate_record::NodeId;
use quorate_transport::{Protocol, decode_message, encode_frame, next_frame};

use super::{World, agenda::Happening, name};
use crate::{
    describe::describe_message,
    network::{Way, micros},
};

impl World {
    pub(super) fn arrive(
        &mut self,
        number: u64,
        way: Way,
        frame: Bytes,
        corrupted: bool,
        replayed: bool,
    ) {
        let Some(connection) = self.network.connection(number).cloned() else { return };
        let (from, to) = match way {
            Way::ToAcceptor => (connection.dialer, connection.acceptor),
            Way::ToDialer => (connection.acceptor, connection.dialer),
        };
        // Whoever has no such connection answers with a reset; a machine without power does not answer.
        if self.machines[connection.acceptor].life != connection.acceptor_life {
            if self.machines[connection.acceptor].process.is_some() {
                self.lose(number);
            }
            return;
        }
        let mut buffer = frame.try_into_mut().unwrap_or_else(|frame| BytesMut::from(&frame[..]));
        let body = match next_frame(&mut buffer) {
            Ok(Some(body)) => body,
            Ok(None) | Err(_) => {
                self.coverage.count("state: corrupt frame caught");
                return self.lose(number);
            }
        };
        if corrupted {
            self.breaks(
                "[frames] a frame that was changed on its way was taken for good".to_owned(),
            );
        }
        let message = match decode_message(&body, Protocol::NEWEST) {
            Ok(message) => message,
            Err(error) => {
                self.breaks(format!("[frames] a node sent what its peer cannot read: {error}"));
                return self.lose(number);
            }
        };
        self.trace.note(&[self.now_us, 6, from as u64, to as u64, body.len() as u64]);
        self.remark(|| format!("{} → {} {}", name(from), name(to), describe_message(&message)));
        if replayed {
            self.coverage.count("fault: message replayed after a minute");
        }
        self.count_message(&message);
        let is_request = matches!(message, Message::Request { .. });
        // What is not what it should be on this side of a connection is dropped, as a server does.
        if is_request != (way == Way::ToAcceptor) {
            return;
        }
        let via = if is_request { number } else { 0 };
        let from = self.machines[from].id;
        self.report(to, Event::Received { from, via, message });
        if is_request && self.network.resets() {
            self.coverage.count("fault: connection reset");
            self.lose(number);
        }
    }

    /// Ends a connection: whoever dialled it is told and dials again.
    pub(super) fn lose(&mut self, number: u64) {
        let Some(connection) = self.network.disconnect(number) else { return };
        let (dialer, acceptor) = (connection.dialer, connection.acceptor);
        if self.machines[dialer].process.is_some() {
            self.trace.note(&[self.now_us, 7, dialer as u64, acceptor as u64]);
            self.remark(|| format!("{} has lost {}", name(dialer), name(acceptor)));
            self.report(dialer, Event::Lost { peer: name(acceptor) });
            self.plan_dial(dialer, acceptor, true);
        }
    }

    pub(super) fn dial(&mut self, from: usize, life: u64, to: usize) {
        if self.machines[from].life != life
            || self.machines[from].process.is_none()
            || self.network.dialled(from, to).is_some()
        {
            return;
        }
        let there = &self.machines[to];
        let open = self.network.is_open(from, to) && self.network.is_open(to, from);
        let awake = there.process.is_some() && there.paused_until_us <= self.now_us;
        let incarnation = there.process.as_ref().map(|process| process.node.writer().incarnation);
        let Some(incarnation) = incarnation.filter(|_| open && awake) else {
            self.report(from, Event::Lost { peer: name(to) });
            return self.plan_dial(from, to, true);
        };
        self.network.connect(from, to, there.life);
        self.trace.note(&[self.now_us, 8, from as u64, to as u64]);
        self.remark(|| format!("{} is connected to {}", name(from), name(to)));
        self.report(from, Event::Connected { peer: name(to), incarnation });
    }

    pub(super) fn plan_dial(&mut self, from: usize, to: usize, after_failure: bool) {
        let wait = match after_failure {
            true => self.network.wait_before_dialling(from, to),
            false => self.network.delay(),
        };
        let life = self.machines[from].life;
        self.plan(self.now_us + micros(wait), Happening::Dial { from, life, to });
    }

    /// Sends a request to a peer; says whether there is a connection to it.
    pub(super) fn send(&mut self, from: usize, to: NodeId, message: &Message) -> bool {
        let to = self.number_of(to);
        let number = to.and_then(|to| self.network.dialled(from, to));
        if let Some(number) = number {
            self.transmit(number, Way::ToAcceptor, message);
        }
        number.is_some()
    }

    pub(super) fn transmit(&mut self, number: u64, way: Way, message: &Message) {
        let passages = self.network.send(number, way, self.now_us);
        if passages[0].is_none() {
            return self.coverage.count("fault: message lost");
        }
        self.encoded.clear();
        if let Err(bytes) = encode_frame(message, Protocol::NEWEST, &mut self.encoded) {
            return self.breaks(format!("a node sends a message of {bytes} bytes"));
        }
        let frame = Bytes::copy_from_slice(&self.encoded);
        if passages[1].is_some() {
            self.coverage.count("fault: message doubled");
        }
        if let Some(passage) = passages[2] {
            self.remark(|| format!("comes again at {} s", passage.arrives_us / 1_000_000));
        }
        for (copy, passage) in passages.into_iter().enumerate() {
            let Some(passage) = passage else { continue };
            let mut frame = frame.clone();
            if let Some(bit) = passage.flipped_bit {
                self.coverage.count("fault: message corrupted");
                let mut bytes = frame.to_vec();
                let bit = usize::try_from(bit % (bytes.len() as u64 * 8)).expect("in memory");
                bytes[bit / 8] ^= 1 << (bit % 8);
                frame = Bytes::from(bytes);
            }
            let (corrupted, replayed) = (passage.flipped_bit.is_some(), copy == 2);
            let slowness = self.slowness_at_the_end(number, way);
            let at_us = passage.arrives_us + 200 * u64::from(slowness - 1);
            let connection = number;
            self.plan(at_us, Happening::Arrive { connection, way, frame, corrupted, replayed });
        }
    }

    pub(super) fn slowness_at_the_end(&self, number: u64, way: Way) -> u32 {
        self.network.connection(number).map_or(1, |connection| {
            let end = match way {
                Way::ToAcceptor => connection.acceptor,
                Way::ToDialer => connection.dialer,
            };
            self.machines[end].slowness
        })
    }
}
