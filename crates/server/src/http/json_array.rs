//! `data` of an input: a JSON array, nested or flat, straight into little-endian bytes.

use bytes::Bytes;
use samovar_core::error::{Error, echo_shape};
use samovar_core::tensor::{Datatype, MAX_TENSOR_BYTES};

use super::json::Cursor;
use super::number::{FromInteger, float32, float64, integer_of};
use super::number_run;
use crate::door::invalid;
use crate::door::tensors::{self, miscounted, too_large};

/// Read the array at `cursor` as `datatype` elements, as many as `shape` says, of at most `limit` bytes.
///
/// Nesting does not matter, as in Triton: the elements count in the order of the text.
pub(super) fn read(cursor: &mut Cursor<'_>, datatype: Datatype, shape: &[u64], limit: u64) -> Result<Bytes, Error> {
    let count = room(cursor, datatype, shape, limit)?;
    let mut out = Vec::with_capacity(count * datatype.size().unwrap_or(4));
    let out_ref = &mut out;
    match datatype {
        Datatype::Bool => each(cursor, count, out_ref, boolean),
        Datatype::Uint8 => each(cursor, count, out_ref, whole::<u8, 1>),
        Datatype::Uint16 => each(cursor, count, out_ref, whole::<u16, 2>),
        Datatype::Uint32 => each(cursor, count, out_ref, whole::<u32, 4>),
        Datatype::Uint64 => each(cursor, count, out_ref, whole::<u64, 8>),
        Datatype::Int8 => each(cursor, count, out_ref, whole::<i8, 1>),
        Datatype::Int16 => each(cursor, count, out_ref, whole::<i16, 2>),
        Datatype::Int32 => each(cursor, count, out_ref, whole::<i32, 4>),
        Datatype::Int64 => each(cursor, count, out_ref, whole::<i64, 8>),
        Datatype::Fp32 => each_or_run(cursor, count, out_ref, number_run::float32, single),
        Datatype::Fp64 => each(cursor, count, out_ref, double),
        Datatype::Bytes => each(cursor, count, out_ref, string),
        Datatype::Fp16 | Datatype::Bf16 => Err(not_in_json(datatype)),
    }?;
    if out.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(Bytes::from(out))
}

/// Read one value at `cursor` as an element of `datatype` and append it to `out`.
pub(super) fn scalar(cursor: &mut Cursor<'_>, datatype: Datatype, out: &mut Vec<u8>) -> Result<(), Error> {
    match datatype {
        Datatype::Bool => boolean(cursor, out),
        Datatype::Uint8 => whole::<u8, 1>(cursor, out),
        Datatype::Uint16 => whole::<u16, 2>(cursor, out),
        Datatype::Uint32 => whole::<u32, 4>(cursor, out),
        Datatype::Uint64 => whole::<u64, 8>(cursor, out),
        Datatype::Int8 => whole::<i8, 1>(cursor, out),
        Datatype::Int16 => whole::<i16, 2>(cursor, out),
        Datatype::Int32 => whole::<i32, 4>(cursor, out),
        Datatype::Int64 => whole::<i64, 8>(cursor, out),
        Datatype::Fp32 => single(cursor, out),
        Datatype::Fp64 => double(cursor, out),
        Datatype::Bytes => string(cursor, out),
        Datatype::Fp16 | Datatype::Bf16 => Err(not_in_json(datatype)),
    }
}

/// The number of elements, if the text that is left can hold them and they fit the limits. Checked before anything is
/// allocated for them.
fn room(cursor: &Cursor<'_>, datatype: Datatype, shape: &[u64], limit: u64) -> Result<usize, Error> {
    let count = tensors::count(shape)?;
    // n elements take n characters, n - 1 commas and two brackets at the least.
    if count > cursor.remaining() as u64 / 2 {
        return Err(invalid(format!("data has fewer elements than shape {} wants ({count})", echo_shape(shape))));
    }
    let bytes = count.saturating_mul(datatype.size().unwrap_or(4) as u64);
    if bytes > limit.min(MAX_TENSOR_BYTES) {
        return Err(too_large(limit.min(MAX_TENSOR_BYTES)));
    }
    usize::try_from(count).map_err(|_| too_large(limit))
}

/// Read `count` elements with `read`, whatever brackets stand between them.
#[inline]
fn each(
    cursor: &mut Cursor<'_>,
    count: usize,
    out: &mut Vec<u8>,
    read: impl Fn(&mut Cursor<'_>, &mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    each_or_run(cursor, count, out, |_, _, _| (0, 0), read)
}

/// The same, where `run` may read any number of elements with a comma behind each.
#[inline]
fn each_or_run(
    cursor: &mut Cursor<'_>,
    count: usize,
    out: &mut Vec<u8>,
    run: impl Fn(&[u8], usize, &mut Vec<u8>) -> (usize, usize),
    read: impl Fn(&mut Cursor<'_>, &mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut left = count;
    let mut level = 0_u32;
    'value: loop {
        if level > 0 {
            let (elements, bytes) = run(cursor.rest(), left, out);
            left -= elements;
            cursor.advance(bytes);
        }
        if cursor.token() == Some(b'[') {
            cursor.open(b'[')?;
            level += 1;
            if cursor.token() != Some(b']') {
                continue 'value;
            }
        } else if level == 0 {
            return Err(cursor.fault("an array"));
        } else {
            left = left.checked_sub(1).ok_or_else(|| miscounted(count as u64 + 1, count as u64))?;
            read(cursor, out)?;
        }
        loop {
            match cursor.token() {
                Some(b',') => {
                    cursor.bump();
                    continue 'value;
                }
                Some(b']') => {
                    cursor.close();
                    level -= 1;
                    if level == 0 {
                        break 'value;
                    }
                }
                _ => return Err(cursor.fault("`,` or `]`")),
            }
        }
    }
    if left > 0 {
        return Err(miscounted((count - left) as u64, count as u64));
    }
    Ok(())
}

#[inline]
fn single(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.extend_from_slice(&float32(cursor)?.to_le_bytes());
    Ok(())
}

#[inline]
fn double(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.extend_from_slice(&float64(cursor)?.to_le_bytes());
    Ok(())
}

#[cold]
fn not_in_json(datatype: Datatype) -> Error {
    invalid(format!(
        "{} does not travel as JSON; send it with the binary extension (`binary_data_size`)",
        datatype.name()
    ))
}

/// An integer of `N` bytes.
#[inline]
fn whole<T: FromInteger + ToLittleEndian<N>, const N: usize>(
    cursor: &mut Cursor<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.extend_from_slice(&integer_of::<T>(cursor, T::NAME)?.to_little_endian());
    Ok(())
}

trait ToLittleEndian<const N: usize> {
    const NAME: &'static str;
    fn to_little_endian(self) -> [u8; N];
}

macro_rules! to_little_endian {
    ($($integer:ty, $bytes:literal, $name:literal;)+) => {$(
        impl ToLittleEndian<$bytes> for $integer {
            const NAME: &'static str = $name;
            #[inline]
            fn to_little_endian(self) -> [u8; $bytes] { self.to_le_bytes() }
        }
    )+};
}

to_little_endian! {
    u8, 1, "UINT8"; u16, 2, "UINT16"; u32, 4, "UINT32"; u64, 8, "UINT64";
    i8, 1, "INT8"; i16, 2, "INT16"; i32, 4, "INT32"; i64, 8, "INT64";
}

/// true, false, or as Triton takes it, 0 and 1.
fn boolean(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let value = match cursor.token() {
        Some(b't' | b'f') => u8::from(cursor.boolean()?),
        _ => integer_of::<u8>(cursor, "BOOL")?,
    };
    if value > 1 {
        return Err(invalid(format!("`{value}` is no BOOL; true, false, 0 and 1 are")));
    }
    out.push(value);
    Ok(())
}

/// A string, behind its length as a little-endian u32.
fn string(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    cursor.string_into(out)?;
    let length = u32::try_from(out.len() - start - 4).map_err(|_| invalid("a string is longer than 4 GiB"))?;
    if let Some(prefix) = out.get_mut(start..start + 4) {
        prefix.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use samovar_core::error::Code;

    use super::*;

    fn data(text: &str, datatype: Datatype, shape: &[u64]) -> Result<Vec<u8>, String> {
        let mut cursor = Cursor::new(text.as_bytes());
        let bytes = read(&mut cursor, datatype, shape, 1 << 20).map_err(|error| error.message)?;
        cursor.end().map_err(|error| error.message)?;
        Ok(bytes.to_vec())
    }

    #[test]
    fn nested_and_flat_arrays_are_the_same() {
        let wanted: Vec<u8> = [1_i16, -2, 3, 4].iter().flat_map(|value| value.to_le_bytes()).collect();
        for text in ["[1,-2,3,4]", "[[1,-2],[3,4]]", " [ [ [ 1 ] , [ -2 ] ] , [ 3 , 4 ] ] "] {
            assert_eq!(data(text, Datatype::Int16, &[2, 2]).as_deref(), Ok(&wanted[..]), "{text}");
        }
    }

    #[test]
    fn each_datatype_has_its_form() {
        assert_eq!(data("[true,false,1,0]", Datatype::Bool, &[4]), Ok(vec![1, 0, 1, 0]));
        assert_eq!(data("[1,2.5]", Datatype::Fp32, &[2]), Ok([1_f32, 2.5].map(f32::to_le_bytes).concat()));
        assert_eq!(data("[1,2.5e0]", Datatype::Fp64, &[2]), Ok([1_f64, 2.5].map(f64::to_le_bytes).concat()));
        assert_eq!(
            data("[\"ab\",\"\",\"é\\n\"]", Datatype::Bytes, &[3]),
            Ok(b"\x02\0\0\0ab\0\0\0\0\x03\0\0\0\xc3\xa9\n".to_vec())
        );
    }

    #[test]
    fn empty_tensors_are_empty_arrays() {
        for text in ["[]", "[[],[]]", "[[[]]]"] {
            assert_eq!(data(text, Datatype::Fp32, &[2, 0]), Ok(vec![]), "{text}");
        }
    }

    #[test]
    fn wrong_data_is_refused() {
        let table: &[(&str, Datatype, &[u64], &str)] = &[
            ("[1,2,3]", Datatype::Int32, &[2], "more elements than its shape wants (2)"),
            ("[1   ]", Datatype::Int32, &[2], "has 1 elements, its shape wants 2"),
            ("[1]", Datatype::Int32, &[2], "fewer elements than shape [2] wants (2)"),
            ("[1,2]", Datatype::Int32, &[1 << 40], "fewer elements"),
            ("[1]", Datatype::Int32, &[1 << 40, 1 << 40], "64 bits"),
            ("[1.0]", Datatype::Int32, &[1], "`1.0` is no integer"),
            ("[300]", Datatype::Uint8, &[1], "`300` does not fit UINT8"),
            ("[-1]", Datatype::Uint64, &[1], "does not fit UINT64"),
            ("[2]", Datatype::Bool, &[1], "no BOOL"),
            ("[1e400]", Datatype::Fp64, &[1], "does not fit FP64"),
            ("[NaN]", Datatype::Fp32, &[1], "`NaN` is no number"),
            ("[null]", Datatype::Fp32, &[1], "`null` is no number"),
            ("[1]", Datatype::Bytes, &[1], "want a string"),
            ("[\"a\"]", Datatype::Fp32, &[1], "is no number"),
            ("[1]", Datatype::Fp16, &[1], "binary_data_size"),
            ("[1]", Datatype::Bf16, &[1], "binary_data_size"),
            ("1  ", Datatype::Fp32, &[1], "want an array"),
            ("[1,]", Datatype::Fp32, &[2], "a number"),
            ("[[1],2", Datatype::Fp32, &[2], "`,` or `]`"),
            ("[1}", Datatype::Fp32, &[1], "`,` or `]`"),
            ("{\"a\":1}", Datatype::Fp32, &[1], "want an array"),
        ];
        for (text, datatype, shape, wanted) in table {
            let message = data(text, *datatype, shape).unwrap_err();
            assert!(message.contains(wanted), "{text}: {message}");
        }
        let deep = [vec![b'['; 65], b"1".to_vec(), vec![b']'; 65]].concat();
        assert!(
            data(std::str::from_utf8(&deep).unwrap(), Datatype::Fp32, &[1]).unwrap_err().contains("deeper than 64")
        );
    }

    #[test]
    fn decoded_bytes_have_a_limit() {
        let text = format!("[{}1]", "1,".repeat(999));
        let mut cursor = Cursor::new(text.as_bytes());
        let error = read(&mut cursor, Datatype::Fp64, &[1000], 7_999).unwrap_err();
        assert_eq!(error.code, Code::PayloadTooLarge);
        let mut cursor = Cursor::new(text.as_bytes());
        assert!(read(&mut cursor, Datatype::Fp64, &[1000], 8_000).is_ok());
    }
}
