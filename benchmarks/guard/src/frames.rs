//! Descriptors through the rings of a control page, both ends of which are here.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use samovar_core::channel::frame::{Descriptor, FLAG_RELEASED, FLAG_TENSOR, Kind};
use samovar_core::channel::ring::{CONTROL_BYTES, Consumer, Direction, Producer};
use samovar_core::channel::segments::{Access, create};
use samovar_core::tensor::Datatype;

/// A call goes down, is claimed and read; its end comes up and is read.
pub(crate) fn call_and_end(rounds: u64) -> Result<(), Box<dyn Error>> {
    let page = Arc::new(create(CONTROL_BYTES, Access::Everybody)?.1);
    let (mut calls, mut work) = (Producer::new(&page, Direction::Down)?, Consumer::new(&page, Direction::Down)?);
    let (mut answers, mut ends) = (Producer::new(&page, Direction::Up)?, Consumer::new(&page, Direction::Up)?);
    for call in 1..=rounds {
        let slot = calls.push_call(&descriptor(Kind::Call, call).encode())?.ok_or("the ring is full")?;
        let entry = work.pop()?.ok_or("no CALL")?;
        black_box(Descriptor::decode(&entry.descriptor)?);
        if !work.claim(&entry) {
            return Err("the call was taken back".into());
        }
        work.acknowledge();
        answers.push(&descriptor(Kind::End, call).encode())?;
        let entry = ends.pop()?.ok_or("no END")?;
        ends.acknowledge();
        black_box(Descriptor::decode(&entry.descriptor)?);
        calls.free_slot(slot);
    }
    Ok(())
}

/// With one small tensor, as most calls are.
fn descriptor(kind: Kind, call: u64) -> Descriptor {
    let mut descriptor = Descriptor::new(black_box(kind), call);
    descriptor.flags = FLAG_TENSOR | if kind == Kind::End { FLAG_RELEASED } else { 0 };
    (descriptor.tensor_count, descriptor.rows, descriptor.datatype) = (1, 1, Datatype::Fp32 as u8);
    (descriptor.segment, descriptor.generation, descriptor.offset) = (1, call as u32, 4);
    (descriptor.tensor_offset, descriptor.tensor_length, descriptor.metadata_length) = (5, 64, 30);
    descriptor
}
