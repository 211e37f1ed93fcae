//! A stream of pieces whose frames may overtake each other: some come through the ring, some through the socket.

use std::collections::{BTreeMap, VecDeque};

use super::frame::{BadFrame, bad};

/// Pieces in the order of their numbers, and how many there are once that is known.
#[derive(Debug)]
pub struct Ordered<T> {
    /// Number of the next piece that is not `ready` yet.
    next: u32,
    ready: VecDeque<T>,
    early: BTreeMap<u32, T>,
    total: Option<u32>,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self { next: 0, ready: VecDeque::new(), early: BTreeMap::new(), total: None }
    }
}

impl<T> Ordered<T> {
    /// Take in piece number `sequence`; a number that came before, or lies behind the end, is refused.
    pub fn put(&mut self, sequence: u32, piece: T) -> Result<(), BadFrame> {
        if sequence < self.next || self.total.is_some_and(|total| sequence >= total) {
            return bad(format!("piece {sequence} of a stream that is at {}", self.next));
        }
        if self.early.insert(sequence, piece).is_some() {
            return bad(format!("piece {sequence} of a stream came twice"));
        }
        while let Some(piece) = self.early.remove(&self.next) {
            self.ready.push_back(piece);
            self.next += 1;
        }
        Ok(())
    }

    /// The stream has `total` pieces; a second end, or one before a piece that has come, is refused.
    pub fn end(&mut self, total: u32) -> Result<(), BadFrame> {
        let last = self.early.last_key_value().map_or(self.next, |(sequence, _)| sequence.saturating_add(1));
        if self.total.is_some() || total < last {
            return bad(format!("the end of a stream after {total} pieces, of which {last} have come"));
        }
        self.total = Some(total);
        Ok(())
    }

    /// The next piece, if it is there.
    pub fn take(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// True when every piece has come and been taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ready.is_empty() && self.is_complete()
    }

    /// True when every piece has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.total == Some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_come_out_in_order_whatever_overtakes_what(
            order in Just((0..12_u32).collect::<Vec<_>>()).prop_shuffle(), end_at in 0..13_usize
        ) {
            let mut stream = Ordered::default();
            let mut taken = Vec::new();
            for (index, sequence) in order.iter().enumerate() {
                if index == end_at {
                    stream.end(12).unwrap();
                }
                stream.put(*sequence, *sequence).unwrap();
                while let Some(piece) = stream.take() {
                    taken.push(piece);
                }
                prop_assert_eq!(stream.is_over(), index == 11 && end_at <= 11);
            }
            prop_assert_eq!(taken, (0..12).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let mut stream = Ordered::default();
        stream.put(0, 'a').unwrap();
        assert!(stream.put(0, 'a').is_err(), "taken twice");
        stream.put(2, 'c').unwrap();
        assert!(stream.put(2, 'c').is_err(), "early twice");
        assert!(stream.end(2).is_err(), "piece 2 has come");
        stream.end(3).unwrap();
        assert!(stream.end(3).is_err() && stream.put(3, 'd').is_err());
        assert!(!stream.is_complete());
        stream.put(1, 'b').unwrap();
        assert!(stream.is_complete() && !stream.is_over());
        assert_eq!(std::iter::from_fn(|| stream.take()).collect::<String>(), "abc");
        assert!(stream.is_over());
    }

    #[test]
    fn the_largest_number_is_one_like_others() {
        let mut stream = Ordered::default();
        stream.put(u32::MAX, ()).unwrap();
        assert!(stream.end(0).is_err() && stream.take().is_none());
    }
}
