//! Answers that come in pieces: put in order, and bounded by the credit that the worker was given.

use std::collections::HashMap;

use super::engine::EndFrame;
use super::frame::{BadFrame, Descriptor, INITIAL_CREDIT, bad};
use super::stream::Ordered;
use crate::request::Piece;

/// Far more than a worker has calls.
const MAX_INFLOWS: usize = 1 << 17;

/// Streams whose first piece has come and whose end has not been told.
#[derive(Debug, Default)]
pub(super) struct Inflows(HashMap<u64, Inflow>);

#[derive(Debug)]
struct Inflow {
    pieces: Ordered<Piece>,
    /// Pieces that the worker may still send.
    credit: u32,
    /// Came before the last pieces did.
    end: Option<(EndFrame, bool)>,
}

/// What has become complete; an end comes with whether the worker has released its inputs.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) pieces: Vec<Piece>,
    pub(super) end: Option<(EndFrame, bool)>,
}

impl Inflows {
    fn of(&mut self, call: u64) -> &mut Inflow {
        let fresh = || Inflow { pieces: Ordered::default(), credit: INITIAL_CREDIT, end: None };
        self.0.entry(call).or_insert_with(fresh)
    }

    /// A PART has come.
    pub(super) fn part(&mut self, descriptor: &Descriptor, piece: Piece) -> Result<News, BadFrame> {
        if self.0.len() > MAX_INFLOWS {
            return bad(format!("PARTs of more than {MAX_INFLOWS} calls"));
        }
        let inflow = self.of(descriptor.call);
        let Some(credit) = inflow.credit.checked_sub(1) else {
            return bad(format!("a PART of call {} beyond its credit", descriptor.call));
        };
        inflow.credit = credit;
        inflow.pieces.put(descriptor.sequence, piece)?;
        Ok(self.news(descriptor.call))
    }

    /// An END has come, after `parts` pieces.
    pub(super) fn end(&mut self, parts: u32, end: (EndFrame, bool)) -> Result<News, BadFrame> {
        let call = end.0.call;
        if parts == 0 && !self.0.contains_key(&call) {
            return Ok(News { pieces: Vec::new(), end: Some(end) });
        }
        let inflow = self.of(call);
        inflow.pieces.end(parts)?;
        inflow.end = Some(end);
        Ok(self.news(call))
    }

    fn news(&mut self, call: u64) -> News {
        let inflow = self.of(call);
        let pieces = std::iter::from_fn(|| inflow.pieces.take()).collect();
        let end = if inflow.pieces.is_complete() { inflow.end.take() } else { None };
        if end.is_some() {
            self.0.remove(&call);
        }
        News { pieces, end }
    }

    /// Let the worker send one more; false if the call has ended.
    pub(super) fn credit(&mut self, call: u64) -> bool {
        let Some(inflow) = self.0.get_mut(&call) else { return false };
        inflow.credit += 1;
        true
    }
}
