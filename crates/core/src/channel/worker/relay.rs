//! The ring from the engine: read by whoever runs the model, or, where that may wait for something else, by the thread.

use std::io;
use std::sync::Arc;

use super::{Incoming, WorkerEnd};
use crate::channel::frame::{BadFrame, Descriptor, Kind, bad};
use crate::channel::shm::wake;
use crate::channel::socket;
use crate::clock::now;

impl WorkerEnd {
    /// Read one frame of the ring. `None`: there is none, and the engine will wake us for the next;
    /// `Some(None)`: it was dealt with; else it is a call that has been claimed.
    pub(super) fn next_in_ring(self: &Arc<Self>) -> Result<Option<Option<Descriptor>>, BadFrame> {
        let Some(shm) = &self.shm else { return Ok(None) };
        let mut consumer = shm.consumer.lock();
        let Some(entry) = consumer.pop()? else {
            if !consumer.prepare_sleep() {
                return Ok(Some(None));
            }
            drop(consumer);
            self.trim();
            return Ok(None);
        };
        let descriptor = Descriptor::decode(&entry.descriptor)?;
        let mut is_mine = false;
        if descriptor.kind == Kind::Call {
            if now() >= descriptor.deadline {
                if consumer.refuse(&entry) {
                    self.not_started(descriptor.call, descriptor.instance);
                }
            } else {
                // Known before it is claimed: from then on a CANCEL may come.
                self.running.lock().entry(descriptor.call).or_default();
                is_mine = consumer.claim(&entry);
                if !is_mine {
                    self.running.lock().remove(&descriptor.call);
                }
            }
        }
        consumer.acknowledge();
        drop(consumer);
        match descriptor.kind {
            Kind::Call => {}
            Kind::Hello | Kind::Segment | Kind::Ask | Kind::Tell => {
                return bad(format!("{:?} in the ring", descriptor.kind));
            }
            _ => self.heard(&descriptor)?,
        }
        Ok(Some(is_mine.then_some(descriptor)))
    }

    /// A frame that says something of a call, or of memory.
    pub(super) fn heard(self: &Arc<Self>, descriptor: &Descriptor) -> Result<(), BadFrame> {
        match descriptor.kind {
            Kind::Release => self.answer_released(descriptor),
            Kind::Cancel => self.cancelled(descriptor.call),
            Kind::Credit => self.credited(descriptor.call, descriptor.rows),
            Kind::Part | Kind::End => {
                let (message, inputs) = self.open_answer(descriptor)?;
                self.answered(descriptor, message, inputs)?;
            }
            kind => return bad(format!("{kind:?} from the engine")),
        }
        Ok(())
    }

    /// Pass on everything in the ring, if there is anything; only the thread does this.
    pub(super) fn relay(self: &Arc<Self>) -> io::Result<bool> {
        let mut has_news = false;
        while let Some(found) = self.next_in_ring().map_err(socket::invalid)? {
            if let Some(descriptor) = found {
                let call = self.open_call(&descriptor).map_err(socket::invalid)?;
                self.inbox.lock().push_back(Incoming::Call(call));
            }
            has_news = true;
        }
        if has_news {
            wake(&self.relay);
        }
        Ok(has_news)
    }

    /// A call whose descriptor came through the socket: false if it must not begin any more, which is said.
    pub(super) fn may_begin(&self, descriptor: &Descriptor) -> bool {
        let is_cancelled = self.running.lock().get(&descriptor.call).is_some_and(|state| state.is_cancelled());
        if is_cancelled || now() >= descriptor.deadline {
            self.not_started(descriptor.call, descriptor.instance);
            return false;
        }
        true
    }

    /// Release what the engine has given back, and nothing else: whoever needs memory may do this.
    pub(super) fn hear_releases(&self) -> Result<bool, BadFrame> {
        let Some(shm) = &self.shm else { return Ok(false) };
        let mut consumer = shm.consumer.lock();
        let mut any = false;
        while let Some(descriptor) = consumer.pop_if(|kind| kind == Kind::Release as u8)? {
            consumer.acknowledge();
            self.answer_released(&Descriptor::decode(&descriptor)?);
            any = true;
        }
        Ok(any)
    }
}
