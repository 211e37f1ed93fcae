//! The wire format of protocol buffers, read where it lies.

use samovar_core::error::Error;

use crate::door::invalid;

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    /// A string, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// Reads the fields of one message, or packed numbers, in their order.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Number and value of the next field; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, Error> {
        if self.is_at_end() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| faulty("has a field number beyond 2^29"))?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => Value::Bytes(self.bytes()?),
            5 => Value::Fixed32(self.fixed()?),
            wire => return Err(faulty(&format!("has a field of wire type {wire}, which nobody writes"))),
        };
        match key >> 3 {
            0 => Err(faulty("has a field with the number 0")),
            number => Ok(Some((number, value))),
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && *byte > 1 {
                break;
            }
            value |= bits << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(faulty("has a number that does not end, or does not fit in 64 bits"))
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (value, rest) = self.rest.split_first_chunk().ok_or_else(|| faulty("ends in the middle of a number"))?;
        self.rest = rest;
        Ok(*value)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.varint()?;
        match usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(faulty(&format!("says that {length} bytes follow, but {} do", self.rest.len()))),
        }
    }
}

impl<'a> Value<'a> {
    /// A length-delimited field called `name`.
    pub(super) fn bytes(self, name: &str) -> Result<&'a [u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(mistyped(name)),
        }
    }

    /// A string called `name`.
    pub(super) fn text(self, name: &str) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes(name)?).map_err(|_| invalid(format!("`{name}` is not UTF-8")))
    }

    /// A number called `name`, of a type that is written as a varint.
    pub(super) fn varint(self, name: &str) -> Result<u64, Error> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(mistyped(name)),
        }
    }
}

/// A field of the wrong wire type.
#[cold]
pub(super) fn mistyped(name: &str) -> Error {
    faulty(&format!("has another type of value in `{name}` than the protocol says"))
}

#[cold]
fn faulty(how: &str) -> Error {
    invalid(format!("the message is no valid protobuf: it {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, String> {
        let mut cursor = Cursor::new(bytes);
        let mut fields = Vec::new();
        while let Some(field) = cursor.field().map_err(|error| error.message)? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn fields_of_every_wire_type() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let wanted = vec![
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Fixed32([1, 2, 3, 4])),
            (4, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
        ];
        assert_eq!(fields(&bytes), Ok(wanted));
        assert_eq!(fields(&[]), Ok(vec![]));
    }

    #[test]
    fn numbers_have_ten_bytes_and_64_bits_at_most() {
        let varint = |bytes: &[u8]| Cursor::new(bytes).varint().ok();
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(varint(&largest), Some(u64::MAX));
        largest[9] = 2;
        assert_eq!(varint(&largest), None);
        assert_eq!(varint(&[0x80; 11]), None);
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(varint(&[]), None);
        assert_eq!(varint(&[0x80, 0]), Some(0));
    }

    #[test]
    fn broken_messages_say_how() {
        for (bytes, text) in [
            (&[0x0a, 5, 1][..], "says that 5 bytes follow, but 1 do"),
            (&[0x0d, 1, 2], "ends in the middle of a number"),
            (&[0x0b], "wire type 3"),
            (&[0x0f], "wire type 7"),
            (&[0x02, 0], "the number 0"),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "beyond 2^29"),
            (&[0x08], "does not end"),
        ] {
            let message = fields(bytes).unwrap_err();
            assert!(message.contains(text), "{message}");
        }
    }
}
