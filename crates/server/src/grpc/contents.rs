//! `InferTensorContents`: elements as numbers of protobuf, straight into little-endian bytes.

use std::fmt::Display;

use bytes::Bytes;
use samovar_core::error::Error;
use samovar_core::tensor::{Datatype, MAX_TENSOR_BYTES};

use super::wire::{Cursor, Value, mistyped};
use crate::door::invalid;
use crate::door::tensors::{self, miscounted, too_large};

/// The fields, from number 1 on.
const FIELDS: [&str; 8] = [
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

/// A tensor's data, and how much of it is not part of the message.
pub(super) struct Data {
    pub(super) bytes: Bytes,
    pub(super) decoded_bytes: u64,
}

/// Read the message `contents`, a part of `whole`, as `datatype` elements, as many as `shape` says; at most `limit`
/// bytes are made for them. Packed floats are as they should be already and stay where they are.
pub(super) fn read(
    contents: &[u8],
    whole: &Bytes,
    (datatype, shape): (Datatype, &[u64]),
    limit: u64,
) -> Result<Data, Error> {
    let wanted = tensors::count(shape)?;
    let mut elements = Elements { datatype, wanted, count: 0, limit: limit.min(MAX_TENSOR_BYTES), data: Vec::new() };
    let field = field_of(datatype)?;
    let mut cursor = Cursor::new(contents);
    while let Some((number, value)) = cursor.field()? {
        if number != field {
            elements.stray(number)?;
            continue;
        }
        match value {
            Value::Bytes(packed) if cursor.is_at_end() && elements.is_float_data(packed) => {
                return Ok(Data { bytes: whole.slice_ref(packed), decoded_bytes: 0 });
            }
            value => elements.take(value)?,
        }
    }
    if elements.count < wanted {
        return Err(miscounted(elements.count, wanted));
    }
    let decoded_bytes = elements.data.len() as u64;
    Ok(Data { bytes: Bytes::from(elements.data), decoded_bytes })
}

fn field_of(datatype: Datatype) -> Result<u32, Error> {
    Ok(match datatype {
        Datatype::Bool => 1,
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => 2,
        Datatype::Int64 => 3,
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => 4,
        Datatype::Uint64 => 5,
        Datatype::Fp32 => 6,
        Datatype::Fp64 => 7,
        Datatype::Bytes => 8,
        Datatype::Fp16 | Datatype::Bf16 => {
            let name = datatype.name();
            return Err(invalid(format!("{name} has no typed contents; send it in raw_input_contents")));
        }
    })
}

struct Elements {
    datatype: Datatype,
    wanted: u64,
    count: u64,
    limit: u64,
    data: Vec<u8>,
}

impl Elements {
    /// Is `packed` the whole data of an FP32 or FP64 tensor?
    fn is_float_data(&self, packed: &[u8]) -> bool {
        let size = match self.datatype {
            Datatype::Fp32 => 4,
            Datatype::Fp64 => 8,
            _ => return false,
        };
        self.count == 0 && self.wanted.checked_mul(size) == Some(packed.len() as u64)
    }

    fn take(&mut self, value: Value<'_>) -> Result<(), Error> {
        match (self.datatype, value) {
            (Datatype::Bytes, Value::Bytes(element)) => self.push_bytes(element),
            (_, Value::Bytes(packed)) => self.take_packed(packed),
            (_, single) => self.push(single),
        }
    }

    fn take_packed(&mut self, packed: &[u8]) -> Result<(), Error> {
        // A number takes a byte at the least.
        let room = self.wanted.min(packed.len() as u64).saturating_mul(self.datatype.size().unwrap_or(0) as u64);
        self.data.reserve(usize::try_from(room.min(self.limit)).unwrap_or(0));
        let mut cursor = Cursor::new(packed);
        while !cursor.is_at_end() {
            let value = match self.datatype {
                Datatype::Fp32 => Value::Fixed32(cursor.fixed()?),
                Datatype::Fp64 => Value::Fixed64(cursor.fixed()?),
                _ => Value::Varint(cursor.varint()?),
            };
            self.push(value)?;
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.next(self.datatype.size().unwrap_or(0))?;
        match (self.datatype, value) {
            (Datatype::Fp32, Value::Fixed32(bits)) => self.data.extend_from_slice(&bits),
            (Datatype::Fp64, Value::Fixed64(bits)) => self.data.extend_from_slice(&bits),
            (_, Value::Varint(bits)) => return self.push_integer(bits),
            _ => return Err(mistyped("contents")),
        }
        Ok(())
    }

    /// INT32 and below travel sign-extended to 64 bits; what is beyond 32 is cut, as the format says.
    #[inline]
    fn push_integer(&mut self, bits: u64) -> Result<(), Error> {
        let (signed, unsigned) = (bits as i32, bits as u32);
        let data = &mut self.data;
        match self.datatype {
            Datatype::Bool => data.push(u8::from(bits != 0)),
            Datatype::Int8 => data.extend_from_slice(&narrowed::<i8, _>(signed, "INT8")?.to_le_bytes()),
            Datatype::Int16 => data.extend_from_slice(&narrowed::<i16, _>(signed, "INT16")?.to_le_bytes()),
            Datatype::Int32 => data.extend_from_slice(&signed.to_le_bytes()),
            Datatype::Uint8 => data.push(narrowed::<u8, _>(unsigned, "UINT8")?),
            Datatype::Uint16 => data.extend_from_slice(&narrowed::<u16, _>(unsigned, "UINT16")?.to_le_bytes()),
            Datatype::Uint32 => data.extend_from_slice(&unsigned.to_le_bytes()),
            Datatype::Int64 | Datatype::Uint64 => data.extend_from_slice(&bits.to_le_bytes()),
            Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 | Datatype::Bytes | Datatype::Bf16 => {
                return Err(mistyped("contents"));
            }
        }
        Ok(())
    }

    fn push_bytes(&mut self, element: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(element.len()).map_err(|_| invalid("a BYTES element is longer than 4 GiB"))?;
        self.next(4 + element.len())?;
        self.data.extend_from_slice(&length.to_le_bytes());
        self.data.extend_from_slice(element);
        Ok(())
    }

    /// Room for one more element, of `size` bytes.
    #[inline]
    fn next(&mut self, size: usize) -> Result<(), Error> {
        self.count += 1;
        if self.count > self.wanted {
            return Err(miscounted(self.count, self.wanted));
        }
        if (self.data.len() + size) as u64 > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(())
    }

    /// A field of another datatype, or of a newer protocol.
    fn stray(&self, number: u32) -> Result<(), Error> {
        let Some(name) = (number as usize).checked_sub(1).and_then(|index| FIELDS.get(index)) else { return Ok(()) };
        let (wanted, datatype) = (field_of(self.datatype)?, self.datatype.name());
        let wanted = FIELDS.get(wanted as usize - 1).copied().unwrap_or_default();
        Err(invalid(format!("its contents are {name}; {datatype} wants {wanted}")))
    }
}

#[inline]
fn narrowed<T: TryFrom<W>, W: Copy + Display>(value: W, name: &str) -> Result<T, Error> {
    T::try_from(value).map_err(|_| invalid(format!("`{value}` does not fit {name}")))
}
