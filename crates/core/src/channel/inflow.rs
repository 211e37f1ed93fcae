//! Answers that come in pieces: put in order, and bounded by the credit that the worker was given.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::engine::EndFrame;
use super::frame::{BadFrame, Descriptor, INITIAL_CREDIT, bad};
use super::stream::Ordered;
use crate::request::Piece;

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

impl Default for Inflow {
    fn default() -> Self {
        Self { pieces: Ordered::default(), credit: INITIAL_CREDIT, end: None }
    }
}

/// What has become complete; an end comes with whether the worker has released its inputs.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) pieces: Vec<Piece>,
    pub(super) end: Option<(EndFrame, bool)>,
}

impl Inflows {
    /// The stream of a call; a call that the worker does not run has none.
    fn of(&mut self, call: u64, is_known: impl FnOnce() -> bool) -> Result<&mut Inflow, BadFrame> {
        match self.0.entry(call) {
            Entry::Vacant(_) if !is_known() => bad(format!("a PART of call {call}, which the worker does not hold")),
            entry => Ok(entry.or_default()),
        }
    }

    /// A PART has come.
    pub(super) fn part(
        &mut self,
        descriptor: &Descriptor,
        piece: Piece,
        is_known: impl FnOnce() -> bool,
    ) -> Result<News, BadFrame> {
        let inflow = self.of(descriptor.call, is_known)?;
        let Some(credit) = inflow.credit.checked_sub(1) else {
            return bad(format!("a PART of call {} beyond its credit", descriptor.call));
        };
        inflow.credit = credit;
        inflow.pieces.put(descriptor.sequence, piece)?;
        Ok(self.news(descriptor.call))
    }

    /// An END has come, after `parts` pieces.
    pub(super) fn end(
        &mut self,
        parts: u32,
        end: (EndFrame, bool),
        is_known: impl FnOnce() -> bool,
    ) -> Result<News, BadFrame> {
        let call = end.0.call;
        if parts == 0 && !self.0.contains_key(&call) {
            return Ok(News { pieces: Vec::new(), end: Some(end) });
        }
        let inflow = self.of(call, is_known)?;
        inflow.pieces.end(parts)?;
        inflow.end = Some(end);
        Ok(self.news(call))
    }

    fn news(&mut self, call: u64) -> News {
        let inflow = self.0.entry(call).or_default();
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
